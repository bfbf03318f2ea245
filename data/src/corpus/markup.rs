//! Character references, and HTML as text: byte scans, one pass, linear for any input.

use memchr::{memchr, memchr2, memmem};

/// Names of characters that HTML 4 and XML know (HTML 4.01, section 24), sorted.
const NAMES: [(&str, u32); 253] = [
    ("AElig", 0xc6),
    ("Aacute", 0xc1),
    ("Acirc", 0xc2),
    ("Agrave", 0xc0),
    ("Alpha", 0x391),
    ("Aring", 0xc5),
    ("Atilde", 0xc3),
    ("Auml", 0xc4),
    ("Beta", 0x392),
    ("Ccedil", 0xc7),
    ("Chi", 0x3a7),
    ("Dagger", 0x2021),
    ("Delta", 0x394),
    ("ETH", 0xd0),
    ("Eacute", 0xc9),
    ("Ecirc", 0xca),
    ("Egrave", 0xc8),
    ("Epsilon", 0x395),
    ("Eta", 0x397),
    ("Euml", 0xcb),
    ("Gamma", 0x393),
    ("Iacute", 0xcd),
    ("Icirc", 0xce),
    ("Igrave", 0xcc),
    ("Iota", 0x399),
    ("Iuml", 0xcf),
    ("Kappa", 0x39a),
    ("Lambda", 0x39b),
    ("Mu", 0x39c),
    ("Ntilde", 0xd1),
    ("Nu", 0x39d),
    ("OElig", 0x152),
    ("Oacute", 0xd3),
    ("Ocirc", 0xd4),
    ("Ograve", 0xd2),
    ("Omega", 0x3a9),
    ("Omicron", 0x39f),
    ("Oslash", 0xd8),
    ("Otilde", 0xd5),
    ("Ouml", 0xd6),
    ("Phi", 0x3a6),
    ("Pi", 0x3a0),
    ("Prime", 0x2033),
    ("Psi", 0x3a8),
    ("Rho", 0x3a1),
    ("Scaron", 0x160),
    ("Sigma", 0x3a3),
    ("THORN", 0xde),
    ("Tau", 0x3a4),
    ("Theta", 0x398),
    ("Uacute", 0xda),
    ("Ucirc", 0xdb),
    ("Ugrave", 0xd9),
    ("Upsilon", 0x3a5),
    ("Uuml", 0xdc),
    ("Xi", 0x39e),
    ("Yacute", 0xdd),
    ("Yuml", 0x178),
    ("Zeta", 0x396),
    ("aacute", 0xe1),
    ("acirc", 0xe2),
    ("acute", 0xb4),
    ("aelig", 0xe6),
    ("agrave", 0xe0),
    ("alefsym", 0x2135),
    ("alpha", 0x3b1),
    ("amp", 0x26),
    ("and", 0x2227),
    ("ang", 0x2220),
    ("apos", 0x27),
    ("aring", 0xe5),
    ("asymp", 0x2248),
    ("atilde", 0xe3),
    ("auml", 0xe4),
    ("bdquo", 0x201e),
    ("beta", 0x3b2),
    ("brvbar", 0xa6),
    ("bull", 0x2022),
    ("cap", 0x2229),
    ("ccedil", 0xe7),
    ("cedil", 0xb8),
    ("cent", 0xa2),
    ("chi", 0x3c7),
    ("circ", 0x2c6),
    ("clubs", 0x2663),
    ("cong", 0x2245),
    ("copy", 0xa9),
    ("crarr", 0x21b5),
    ("cup", 0x222a),
    ("curren", 0xa4),
    ("dArr", 0x21d3),
    ("dagger", 0x2020),
    ("darr", 0x2193),
    ("deg", 0xb0),
    ("delta", 0x3b4),
    ("diams", 0x2666),
    ("divide", 0xf7),
    ("eacute", 0xe9),
    ("ecirc", 0xea),
    ("egrave", 0xe8),
    ("empty", 0x2205),
    ("emsp", 0x2003),
    ("ensp", 0x2002),
    ("epsilon", 0x3b5),
    ("equiv", 0x2261),
    ("eta", 0x3b7),
    ("eth", 0xf0),
    ("euml", 0xeb),
    ("euro", 0x20ac),
    ("exist", 0x2203),
    ("fnof", 0x192),
    ("forall", 0x2200),
    ("frac12", 0xbd),
    ("frac14", 0xbc),
    ("frac34", 0xbe),
    ("frasl", 0x2044),
    ("gamma", 0x3b3),
    ("ge", 0x2265),
    ("gt", 0x3e),
    ("hArr", 0x21d4),
    ("harr", 0x2194),
    ("hearts", 0x2665),
    ("hellip", 0x2026),
    ("iacute", 0xed),
    ("icirc", 0xee),
    ("iexcl", 0xa1),
    ("igrave", 0xec),
    ("image", 0x2111),
    ("infin", 0x221e),
    ("int", 0x222b),
    ("iota", 0x3b9),
    ("iquest", 0xbf),
    ("isin", 0x2208),
    ("iuml", 0xef),
    ("kappa", 0x3ba),
    ("lArr", 0x21d0),
    ("lambda", 0x3bb),
    ("lang", 0x2329),
    ("laquo", 0xab),
    ("larr", 0x2190),
    ("lceil", 0x2308),
    ("ldquo", 0x201c),
    ("le", 0x2264),
    ("lfloor", 0x230a),
    ("lowast", 0x2217),
    ("loz", 0x25ca),
    ("lrm", 0x200e),
    ("lsaquo", 0x2039),
    ("lsquo", 0x2018),
    ("lt", 0x3c),
    ("macr", 0xaf),
    ("mdash", 0x2014),
    ("micro", 0xb5),
    ("middot", 0xb7),
    ("minus", 0x2212),
    ("mu", 0x3bc),
    ("nabla", 0x2207),
    ("nbsp", 0xa0),
    ("ndash", 0x2013),
    ("ne", 0x2260),
    ("ni", 0x220b),
    ("not", 0xac),
    ("notin", 0x2209),
    ("nsub", 0x2284),
    ("ntilde", 0xf1),
    ("nu", 0x3bd),
    ("oacute", 0xf3),
    ("ocirc", 0xf4),
    ("oelig", 0x153),
    ("ograve", 0xf2),
    ("oline", 0x203e),
    ("omega", 0x3c9),
    ("omicron", 0x3bf),
    ("oplus", 0x2295),
    ("or", 0x2228),
    ("ordf", 0xaa),
    ("ordm", 0xba),
    ("oslash", 0xf8),
    ("otilde", 0xf5),
    ("otimes", 0x2297),
    ("ouml", 0xf6),
    ("para", 0xb6),
    ("part", 0x2202),
    ("permil", 0x2030),
    ("perp", 0x22a5),
    ("phi", 0x3c6),
    ("pi", 0x3c0),
    ("piv", 0x3d6),
    ("plusmn", 0xb1),
    ("pound", 0xa3),
    ("prime", 0x2032),
    ("prod", 0x220f),
    ("prop", 0x221d),
    ("psi", 0x3c8),
    ("quot", 0x22),
    ("rArr", 0x21d2),
    ("radic", 0x221a),
    ("rang", 0x232a),
    ("raquo", 0xbb),
    ("rarr", 0x2192),
    ("rceil", 0x2309),
    ("rdquo", 0x201d),
    ("real", 0x211c),
    ("reg", 0xae),
    ("rfloor", 0x230b),
    ("rho", 0x3c1),
    ("rlm", 0x200f),
    ("rsaquo", 0x203a),
    ("rsquo", 0x2019),
    ("sbquo", 0x201a),
    ("scaron", 0x161),
    ("sdot", 0x22c5),
    ("sect", 0xa7),
    ("shy", 0xad),
    ("sigma", 0x3c3),
    ("sigmaf", 0x3c2),
    ("sim", 0x223c),
    ("spades", 0x2660),
    ("sub", 0x2282),
    ("sube", 0x2286),
    ("sum", 0x2211),
    ("sup", 0x2283),
    ("sup1", 0xb9),
    ("sup2", 0xb2),
    ("sup3", 0xb3),
    ("supe", 0x2287),
    ("szlig", 0xdf),
    ("tau", 0x3c4),
    ("there4", 0x2234),
    ("theta", 0x3b8),
    ("thetasym", 0x3d1),
    ("thinsp", 0x2009),
    ("thorn", 0xfe),
    ("tilde", 0x2dc),
    ("times", 0xd7),
    ("trade", 0x2122),
    ("uArr", 0x21d1),
    ("uacute", 0xfa),
    ("uarr", 0x2191),
    ("ucirc", 0xfb),
    ("ugrave", 0xf9),
    ("uml", 0xa8),
    ("upsih", 0x3d2),
    ("upsilon", 0x3c5),
    ("uuml", 0xfc),
    ("weierp", 0x2118),
    ("xi", 0x3be),
    ("yacute", 0xfd),
    ("yen", 0xa5),
    ("yuml", 0xff),
    ("zeta", 0x3b6),
    ("zwj", 0x200d),
    ("zwnj", 0x200c),
];

/// The longest reference: `&thetasym;`, or a number with as many leading zeros as fit.
const REFERENCE_BYTES: usize = 12;

/// What `&...;` at the start of `text` stands for, and its length in bytes.
pub(crate) fn reference(text: &[u8]) -> Option<(char, usize)> {
    let window = &text[..text.len().min(REFERENCE_BYTES)];
    let end = memchr(b';', window)?;
    let name = std::str::from_utf8(window.get(1..end)?).ok()?;
    let code = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => digits(hex, 16)?,
            None => digits(number, 10)?,
        },
        None => NAMES[NAMES.binary_search_by_key(&name, |&(name, _)| name).ok()?].1,
    };
    Some((char::from_u32(code)?, end + 1))
}

/// A number without the sign that `from_str_radix` would allow.
fn digits(text: &str, radix: u32) -> Option<u32> {
    let unsigned = text.starts_with(|c: char| c.is_digit(radix));
    u32::from_str_radix(text, radix).ok().filter(|_| unsigned)
}

/// Adds `text` with its references resolved; what is none stays as it stands.
pub(crate) fn push_unescaped(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, len) = reference(rest.as_bytes()).unwrap_or(('&', 1));
        out.push(c);
        rest = &rest[len..];
    }
    out.push_str(rest);
}

/// How lists, line breaks and blank lines of HTML become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Items begin a line with `* `, `<br>` ends one, blank lines stay.
    Plain,
    /// As RedPajama's: `<li>` and `<ol>`, written just so, are `\n*`; `<br>` is nothing; white space
    /// alone between two tags, outside of `<pre>`, is one line end or one space.
    RedPajama,
}

/// Adds the text of HTML: tags, comments, scripts and styles are cut, references resolved.
pub(crate) fn push_html_text(html: &str, layout: Layout, out: &mut String) {
    let mut text = HtmlText { out, node: 0, preformatted: 0, layout };
    text.node = text.out.len();
    let (start, mut rest) = (text.node, html);
    while let Some(at) = memchr2(b'<', b'&', rest.as_bytes()) {
        text.push(&rest[..at]);
        rest = &rest[at..];
        let used = if rest.starts_with('&') {
            let (c, len) = reference(rest.as_bytes()).unwrap_or(('&', 1));
            text.out.push(c);
            len
        } else {
            text.markup(rest)
        };
        rest = &rest[used..];
    }
    text.push(rest);
    text.end_node();
    if layout == Layout::RedPajama {
        // An HTML parser has no place for white space before the first element.
        let blank = text.out[start..].bytes().take_while(u8::is_ascii_whitespace).count();
        text.out.drain(start..start + blank);
    }
}

struct HtmlText<'a> {
    out: &'a mut String,
    /// Where in `out` the text since the last tag begins.
    node: usize,
    /// Open `<pre>` and `<textarea>`.
    preformatted: usize,
    layout: Layout,
}

impl HtmlText<'_> {
    fn push(&mut self, text: &str) {
        for (i, part) in text.split('\r').enumerate() {
            if i > 0 && !part.starts_with('\n') {
                self.out.push('\n');
            }
            self.out.push_str(part);
        }
    }

    /// Handles what begins with `<`; returns how many bytes it is.
    fn markup(&mut self, rest: &str) -> usize {
        let bytes = rest.as_bytes();
        if self.layout == Layout::RedPajama {
            let items = ["<li>", "<ol>", "</li>", "</ol>"];
            if let Some(tag) = items.iter().find(|tag| rest.starts_with(**tag)) {
                self.out.push_str(if tag.starts_with("</") { "" } else { "\n*" });
                return tag.len();
            }
        }
        let used = match bytes.get(1) {
            Some(b'!') if rest.starts_with("<!--") => {
                memmem::find(&bytes[4..], b"-->").map_or(rest.len(), |at| at + 7)
            }
            Some(b'!' | b'?') => memchr(b'>', bytes).map_or(rest.len(), |at| at + 1),
            Some(b'/') => memchr(b'>', bytes).map_or(rest.len(), |at| at + 1),
            Some(byte) if byte.is_ascii_alphabetic() => tag_length(bytes),
            _ => {
                self.out.push('<');
                return 1;
            }
        };
        self.end_node();
        let used = used + self.tag(&rest[..used], &rest[used..]);
        self.node = self.out.len();
        used
    }

    /// What a tag asks for besides its own absence; returns how many bytes after it go too.
    fn tag(&mut self, tag: &str, after: &str) -> usize {
        let closing = tag.starts_with("</");
        let name = tag.trim_start_matches(['<', '/']);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let name = name[..end].to_ascii_lowercase();
        match (name.as_str(), closing) {
            ("pre" | "textarea", false) => self.preformatted += 1,
            ("pre" | "textarea", true) => {
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            ("script" | "style" | "template", false) => {
                return find_ignore_case(after, &format!("</{name}")).unwrap_or(after.len());
            }
            ("br", _) if self.layout == Layout::Plain && !after.starts_with(['\n', '\r']) => {
                self.out.push('\n');
            }
            ("li", false) if self.layout == Layout::Plain => {
                if !self.out.is_empty() && !self.out.ends_with('\n') {
                    self.out.push('\n');
                }
                self.out.push_str("* ");
            }
            _ => {}
        }
        0
    }

    /// Ends the text between two tags.
    fn end_node(&mut self) {
        let text = &self.out[self.node..];
        let blank = !text.is_empty() && text.bytes().all(|b| b.is_ascii_whitespace());
        if blank && self.preformatted == 0 && self.layout == Layout::RedPajama {
            let short = if text.contains('\n') { '\n' } else { ' ' };
            self.out.truncate(self.node);
            self.out.push(short);
        }
        self.node = self.out.len();
    }
}

/// Bytes of an opening tag, to its `>` outside of quoted values; all, if it never ends.
pub(crate) fn tag_length(tag: &[u8]) -> usize {
    let (mut quote, mut value) = (None, false);
    for (i, &byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return i + 1,
            (None, b'"' | b'\'') if value => quote = Some(byte),
            (None, b'=') => value = true,
            (None, b' ' | b'\n' | b'\t' | b'\r') => {}
            (None, _) => value = false,
        }
    }
    tag.len()
}

/// Where `needle`, in lower case, stands in `text`, in any case of ASCII letters.
pub(crate) fn find_ignore_case(text: &str, needle: &str) -> Option<usize> {
    let (text, needle) = (text.as_bytes(), needle.as_bytes());
    let (lower, upper) = (needle[0], needle[0].to_ascii_uppercase());
    memchr::memchr2_iter(lower, upper, text).find(|&at| {
        text.get(at..at + needle.len()).is_some_and(|found| found.eq_ignore_ascii_case(needle))
    })
}
