//! Names that a wiki gives to its namespaces of files and categories, in the paper's languages.

/// A language of the paper, and its words for media, files and categories, in lower case. Source:
/// each wiki's API, `action=query&meta=siteinfo&siprop=namespaces|namespacealiases`, as collected by
/// the `wikipedia` data set of Hugging Face in December 2021.
struct Names {
    language: &'static str,
    media: &'static [&'static str],
    category: &'static [&'static str],
}

const fn names(
    language: &'static str,
    media: &'static [&'static str],
    category: &'static [&'static str],
) -> Names {
    Names { language, media, category }
}

const NAMES: [Names; 20] = [
    names("bg", &["медия", "файл", "картинка"], &["категория"]),
    names("ca", &["fitxer", "imatge"], &["categoria"]),
    names("cs", &["soubor", "média", "obrázok"], &["kategorie"]),
    names("da", &["billede", "fil"], &["kategori"]),
    names("de", &["medium", "datei", "bild"], &["kategorie"]),
    names("en", &[], &[]),
    names("es", &["medio", "archivo", "imagen"], &["cat", "categoría"]),
    names("fr", &["média", "fichier"], &["catégorie"]),
    names("hr", &["mediji", "dt", "slika", "f", "datoteka"], &["ct", "kt", "kategorija"]),
    names("hu", &["kép", "fájl", "média"], &["kategória"]),
    names("it", &["immagine"], &["cat", "categoria"]),
    names("nl", &["bestand", "afbeelding"], &["categorie"]),
    names("pl", &["plik", "grafika"], &["kategoria"]),
    names("pt", &["multimédia", "ficheiro", "arquivo", "imagem"], &["categoria"]),
    names("ro", &["fişier", "imagine", "fișier"], &["categorie"]),
    names("ru", &["медиа", "файл", "изображение"], &["категория", "к"]),
    names("sl", &["slika", "datoteka"], &["kategorija"]),
    names(
        "sr",
        &["датотека", "medij", "slika", "медија", "datoteka", "медиј", "medija", "слика"],
        &["kategorija", "категорија"],
    ),
    names("sv", &["fil", "bild"], &["kategori"]),
    names(
        "uk",
        &["медіа", "медиа", "файл", "изображение", "зображення"],
        &["категория", "категорія"],
    ),
];

/// The paper's languages, Latin or Cyrillic all.
pub(super) fn languages() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|names| names.language)
}

/// What a link's prefix says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// A picture, a sound.
    Media,
    /// The page is in this category.
    Category,
    /// The same page in another language.
    Language,
    /// A page like any other.
    None,
}

/// What the words before a link's first colon say, in any case. English words count everywhere.
pub(super) fn prefix(title: &str, language: &str) -> (Prefix, usize) {
    let Some(colon) = title.bytes().take(64).position(|byte| byte == b':') else {
        return (Prefix::None, 0);
    };
    let word = title[..colon].to_lowercase();
    let word = word.as_str();
    let own = NAMES.iter().find(|names| names.language == language);
    let is = |english: &[&str], own: Option<&[&str]>| {
        english.contains(&word) || own.is_some_and(|own| own.contains(&word))
    };
    let kind = match () {
        () if is(&["file", "image", "media"], own.map(|names| names.media)) => Prefix::Media,
        () if is(&["category"], own.map(|names| names.category)) => Prefix::Category,
        () if NAMES.iter().any(|names| names.language == word) => Prefix::Language,
        () => Prefix::None,
    };
    (kind, colon + 1)
}
