//! The words that stories draw from. None begins with a vowel letter that isn't a vowel sound.

pub(super) const GIRLS: [&str; 12] =
    ["Mia", "Lily", "Anna", "Rosa", "Emma", "Nora", "Zoe", "Ella", "Lucy", "Ruby", "Clara", "Ivy"];
pub(super) const BOYS: [&str; 12] =
    ["Tom", "Ben", "Sam", "Max", "Leo", "Jack", "Finn", "Oscar", "Theo", "Noah", "Hugo", "Adam"];
pub(super) const SHE_ANIMALS: [&str; 12] = [
    "Clover", "Hazel", "Willow", "Poppy", "Maple", "Pepper", "Daisy", "Olive", "Honey", "Juniper",
    "Penny", "Tulip",
];
pub(super) const HE_ANIMALS: [&str; 12] = [
    "Rusty", "Pip", "Bramble", "Biscuit", "Teddy", "Barley", "Thistle", "Cedar", "Rocky", "Button",
    "Basil", "Otis",
];
pub(super) const ANIMALS: [&str; 10] =
    ["fox", "rabbit", "bear", "duck", "mouse", "cat", "dog", "hedgehog", "owl", "squirrel"];
pub(super) const NATURES: [&str; 12] = [
    "little", "young", "cheerful", "clever", "curious", "gentle", "quiet", "kind", "brave",
    "friendly", "merry", "playful",
];
pub(super) const PLACES: [&str; 10] = [
    "the park",
    "the river",
    "the forest",
    "the market",
    "the beach",
    "the hill",
    "the meadow",
    "the lake",
    "the farm",
    "the old bridge",
];
pub(super) const COLORS: [&str; 9] =
    ["red", "blue", "green", "yellow", "white", "orange", "purple", "brown", "silver"];
pub(super) const TIMES: [&str; 8] = [
    "one morning",
    "one sunny day",
    "one day",
    "one afternoon",
    "on a warm day",
    "one Saturday",
    "on a bright morning",
    "one day in spring",
];
pub(super) const HOBBIES: [&str; 10] = [
    "singing songs",
    "telling stories",
    "climbing trees",
    "drawing pictures",
    "baking bread",
    "watching the clouds",
    "jumping over puddles",
    "looking for smooth stones",
    "chasing butterflies",
    "playing hide and seek",
];
pub(super) const GLAD: [&str; 6] =
    ["happy", "proud", "glad", "cheerful", "thankful", "full of joy"];
pub(super) const SAD: [&str; 5] = ["sad", "worried", "upset", "unhappy", "close to tears"];

/// Things to play with, alone or in turns.
pub(super) const TOYS: [&str; 10] =
    ["ball", "kite", "drum", "boat", "doll", "train", "whistle", "hoop", "wagon", "puzzle"];
/// Things small enough to be left somewhere.
pub(super) const THINGS: [&str; 14] = [
    "ball", "kite", "drum", "boat", "doll", "whistle", "book", "hat", "scarf", "blanket", "cup",
    "umbrella", "bell", "basket",
];
/// Where a small thing can be left.
pub(super) const SPOTS: [&str; 12] = [
    "under the bed",
    "behind the door",
    "on the kitchen table",
    "in the garden shed",
    "next to the stove",
    "under the oak tree",
    "beside the well",
    "on the window sill",
    "behind the sofa",
    "inside the wooden box",
    "on the garden wall",
    "under the stairs",
];
/// Things to gather, one and many.
pub(super) const FRUITS: [(&str, &str); 12] = [
    ("apple", "apples"),
    ("pear", "pears"),
    ("plum", "plums"),
    ("nut", "nuts"),
    ("shell", "shells"),
    ("stone", "stones"),
    ("flower", "flowers"),
    ("berry", "berries"),
    ("cherry", "cherries"),
    ("acorn", "acorns"),
    ("feather", "feathers"),
    ("leaf", "leaves"),
];
/// Things to eat, one and many.
pub(super) const TREATS: [(&str, &str); 6] = [
    ("cookie", "cookies"),
    ("bun", "buns"),
    ("cherry", "cherries"),
    ("pancake", "pancakes"),
    ("apple", "apples"),
    ("strawberry", "strawberries"),
];
/// Animals to see on a walk, one and many.
pub(super) const SEEN: [(&str, &str); 10] = [
    ("duck", "ducks"),
    ("goose", "geese"),
    ("cow", "cows"),
    ("sheep", "sheep"),
    ("butterfly", "butterflies"),
    ("bird", "birds"),
    ("frog", "frogs"),
    ("horse", "horses"),
    ("bee", "bees"),
    ("goat", "goats"),
];
pub(super) const FOODS: [&str; 6] =
    ["bread", "cheese", "apple pie", "plum cake", "carrot cake", "chocolate"];
/// Work for two, as it is asked for and as it was done.
pub(super) const TASKS: [(&str, &str); 8] = [
    ("pick the apples", "picked the apples"),
    ("paint the fence", "painted the fence"),
    ("water the garden", "watered the garden"),
    ("carry the wood", "carried the wood"),
    ("wash the windows", "washed the windows"),
    ("build a tree house", "built a tree house"),
    ("clean the barn", "cleaned the barn"),
    ("bake a cake", "baked a cake"),
];
/// Outdoor fun, as it is planned and as it was had.
pub(super) const OUTINGS: [(&str, &str); 6] = [
    ("fly kites", "flew kites"),
    ("have a picnic", "had a picnic"),
    ("play ball", "played ball"),
    ("ride bikes", "rode bikes"),
    ("look for snails", "looked for snails"),
    ("pick flowers", "picked flowers"),
];
/// Indoor fun, as it was had.
pub(super) const INDOORS: [&str; 6] = [
    "built a tower of blocks",
    "read a long story",
    "made hats out of paper",
    "baked a small cake",
    "played a game of cards",
    "painted pictures of fish",
];
pub(super) const NUMBERS: [&str; 11] =
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// Something to be afraid of.
#[derive(Clone, Copy)]
pub(super) struct Fear {
    pub what: &'static str,
    /// How it shows.
    pub sign: &'static str,
    /// What to do about it.
    pub advice: &'static str,
    /// What comes out.
    pub truth: &'static str,
}

pub(super) const FEARS: [Fear; 6] = [
    Fear {
        what: "the dark",
        sign: "the lamp went out, and the whole room was dark",
        advice: "light a candle and look into every corner",
        truth: "in the corner there was only a chair with a coat on it",
    },
    Fear {
        what: "thunder",
        sign: "there was a loud clap of thunder",
        advice: "count slowly after each flash of light",
        truth: "each time they could count a little longer, because the storm was going away",
    },
    Fear {
        what: "the attic",
        sign: "a strange sound came from the attic",
        advice: "go up the stairs and see what it is",
        truth: "up there it was only the wind, which moved an old window",
    },
    Fear {
        what: "the wind",
        sign: "the wind howled around the house",
        advice: "sing a song that is louder than the wind",
        truth: "soon they could hear only the song and not the wind",
    },
    Fear {
        what: "the big dog next door",
        sign: "the big dog next door began to bark",
        advice: "go to the fence and talk to it softly",
        truth: "the dog only wanted somebody to play with",
    },
    Fear {
        what: "shadows",
        sign: "a long shadow moved across the wall",
        advice: "go up to the wall and look at it closely",
        truth: "it was only the shadow of a tree in the light of the moon",
    },
];

/// Trouble on the way, what helps against it, and how.
pub(super) const TROUBLES: [(&str, &str, &str); 4] = [
    ("it began to rain hard", "umbrella", "they walked home under the umbrella and stayed dry"),
    (
        "it became so dark that they could not see the path",
        "lantern",
        "they walked home by the light of the lantern",
    ),
    (
        "a cold wind began to blow, and they were both cold",
        "blanket",
        "they put the blanket around them and were warm all the way home",
    ),
    (
        "they took a wrong turn and lost their way",
        "map",
        "they looked at the map and found the right path home",
    ),
];
/// A toy, its part that breaks, what is needed, and what is done.
pub(super) const REPAIRS: [(&str, &str, &str, &str); 6] = [
    ("wagon", "wheel", "a hammer and some nails", "nailed the wheel back on"),
    ("kite", "string", "a new piece of string", "tied the new string to the kite"),
    ("boat", "mast", "some glue", "glued the mast together"),
    ("doll", "arm", "a needle and some thread", "sewed the arm back on"),
    ("scooter", "wheel", "a screwdriver", "put the wheel back in its place"),
    ("toy horse", "leg", "some glue", "glued the leg back on"),
];
/// A pet and where it sleeps.
pub(super) const PETS: [(&str, &str); 5] = [
    ("kitten", "a soft basket"),
    ("puppy", "a box with a blanket"),
    ("duckling", "a bed of straw"),
    ("hamster", "a little house of wood"),
    ("guinea pig", "a bed of hay"),
];
pub(super) const MARKS: [&str; 6] = [
    "a white tip on its tail",
    "three brown spots on its back",
    "a red ribbon around its neck",
    "one white foot",
    "a small bell around its neck",
    "a dark spot above one eye",
];

/// A riddle for two guesses.
#[derive(Clone, Copy)]
pub(super) struct Riddle {
    pub clue: &'static str,
    /// An answer that fits the first clue only.
    pub wrong: &'static str,
    pub more: &'static str,
    pub answer: &'static str,
}

pub(super) const RIDDLES: [Riddle; 9] = [
    Riddle {
        clue: "I am round and bright, and I come out when the day is over",
        wrong: "a lamp",
        more: "some nights I am thin, and some nights I am full",
        answer: "the moon",
    },
    Riddle {
        clue: "I have hands, but I cannot hold anything",
        wrong: "a doll",
        more: "I tell you when it is time to go to bed",
        answer: "a clock",
    },
    Riddle {
        clue: "I am white, and I fall without a sound",
        wrong: "a feather",
        more: "when the sun comes out, I turn into water",
        answer: "the snow",
    },
    Riddle {
        clue: "I have many leaves, but I am not a tree",
        wrong: "a bush",
        more: "you can read me before you go to sleep",
        answer: "a book",
    },
    Riddle {
        clue: "I run all day, but I have no legs",
        wrong: "the wind",
        more: "fish live in me, and boats float on me",
        answer: "a river",
    },
    Riddle {
        clue: "I am small and white, and there is gold inside me",
        wrong: "a box",
        more: "a hen made me",
        answer: "an egg",
    },
    Riddle {
        clue: "I follow you all day, but I never make a sound",
        wrong: "a cat",
        more: "when the sun goes down, I go away",
        answer: "a shadow",
    },
    Riddle {
        clue: "I have teeth, but I cannot eat",
        wrong: "a saw",
        more: "you need me for your hair",
        answer: "a comb",
    },
    Riddle {
        clue: "I fly from flower to flower",
        wrong: "a butterfly",
        more: "I am yellow and black, and I make something sweet",
        answer: "a bee",
    },
];
/// A plant, what stands there in the end, and what is done with it.
pub(super) const PLANTS: [(&str, &str, &str); 6] = [
    ("pumpkin", "a plant with a big round pumpkin", "made soup out of the pumpkin"),
    ("sunflower", "a sunflower as tall as the house", "gave its seeds to the birds"),
    ("tomato", "a plant full of red tomatoes", "ate the tomatoes with bread"),
    ("bean", "a plant full of long green beans", "cooked the beans for dinner"),
    ("strawberry", "a plant full of sweet strawberries", "made jam out of the strawberries"),
    ("melon", "a plant with a big green melon", "cut the melon and shared it"),
];
pub(super) const RESTS: [&str; 5] = [
    "sleep under a tree",
    "eat some berries",
    "swim in a pond",
    "talk to a frog",
    "look at the flowers",
];
pub(super) const DISHES: [&str; 5] = ["cup", "vase", "plate", "teapot", "bowl"];
pub(super) const EXCUSES: [&str; 3] = ["the wind", "a bird", "the goat"];
