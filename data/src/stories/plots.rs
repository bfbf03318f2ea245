//! What can happen. Each plot draws what it needs, then tells it in order; the hero and the friend
//! are known to the reader by then.

use super::words::*;
use super::{Teller, count, count_in_words};

pub(super) const PLOTS: [fn(&mut Teller); 17] = [
    lost_thing,
    unkind,
    promise,
    gather,
    give_away,
    market,
    counting_walk,
    afraid,
    share_and_repay,
    repair,
    rainy_day,
    birthday,
    lost_pet,
    riddle,
    seed,
    race,
    broken_cup,
];

/// A thing is left somewhere, missed, and found where it was left.
fn lost_thing(t: &mut Teller) {
    t.draw("thing", &THINGS);
    t.draw_two("spot", "wrong", &SPOTS);
    t.say(&[
        "{Time}, {hero} played with {his} {color} {thing}. When {his} mother called, {he} left the {thing} {spot}.",
        "{Hero} had {a color} {thing}. {Time}, before lunch, {he} put it {spot}.",
        "{Time}, {hero} carried {his} {color} {thing} around the house. At noon {he} left it {spot} and went to eat.",
    ]);
    t.say(&[
        "Later {he} wanted the {thing} again, but {he} could not remember where it was.",
        "After lunch the {thing} was gone. `Where is my {thing}?` {he} cried.",
        "When {he} came back, {he} had forgotten where {he} had put it.",
    ]);
    t.say(&[
        "First {he} looked {wrong}, but it was not there.",
        "{He} looked {wrong}. There was nothing but dust.",
        "`Maybe it is {wrong},` {he} thought. But it was not.",
    ]);
    t.say(&["{Hero} was {sad}.", "{He} felt {sad}.", "{He} sat down and was {sad}."]);
    t.paragraph();
    t.say(&[
        "{Friend} came by. `What is wrong?` {fhe} asked. `I have lost my {color} {thing},` said {hero}.",
        "{Friend} saw that {hero} was {sad} and asked what was wrong. {Hero} said that the {color} {thing} was lost.",
    ]);
    t.say(&[
        "`Where did you have it last?` asked {friend}. {Hero} thought hard. `I left it {spot}!`",
        "{Friend} asked where {hero} had left it. `Now I remember,` said {hero}. `I left it {spot}.`",
    ]);
    t.say(&[
        "They ran to look, and there was the {thing}, {spot}.",
        "And there it was, {spot}, just where {he} had left it.",
        "They went together and found the {color} {thing} {spot}.",
    ]);
    t.say(&[
        "`Thank you for your help,` said {hero}.",
        "{Hero} was {glad} and thanked {friend}.",
        "`Next time I will put it away,` said {hero}, and {friend} laughed.",
    ]);
    t.good_night();
}

/// One is unkind, is sorry, and says so.
fn unkind(t: &mut Teller) {
    t.draw("toy", &TOYS);
    t.say(&[
        "{Time}, {hero} got a new {color} {toy}.",
        "{Time}, {hero} came to {place} with {a color} {toy}.",
        "{Hero} had {a color} {toy}, and {time} {he} took it to {place}.",
    ]);
    t.say(&[
        "`May I play with your {toy} too?` asked {friend}.",
        "{Friend} asked if {fhe} could have a turn with the {toy}.",
        "`What a fine {toy}! May I have a turn?` asked {friend}.",
    ]);
    t.say(&[
        "`No! It is mine,` said {hero} and turned away.",
        "`Go away,` said {hero}. `You will break it.`",
        "But {hero} held the {toy} tight and said that {friend} was too clumsy.",
    ]);
    t.say(&[
        "{Friend} was {sad} and went to sit alone under a tree.",
        "{Friend} said nothing, but {fhe} was {sad}.",
        "Tears came to {friend}'s eyes, and {fhe} walked away.",
    ]);
    t.paragraph();
    t.say(&[
        "{Hero} played alone, but it was no fun.",
        "Soon {hero} was tired of playing alone.",
        "Now {hero} had the {toy} and nobody to play with.",
    ]);
    t.say(&[
        "{He} thought about what {he} had said, and {he} felt bad.",
        "{He} looked at {friend} and knew that {he} had been unkind.",
    ]);
    t.say(&[
        "So {hero} went to {friend}. `I am sorry I was unkind,` {he} said. `You may have the {toy} first.`",
        "{He} ran to {friend} and said that {he} was sorry. `Please play with me. We can share the {toy}.`",
        "`I was unkind, and I am sorry,` {he} told {friend}. `Here, it is your turn.`",
    ]);
    t.say(&[
        "`I forgive you,` said {friend} with a smile.",
        "{Friend} smiled and said that all was well again.",
        "`Thank you. Let us play together,` said {friend}.",
    ]);
    t.say(&[
        "They took turns with the {color} {toy} until the sun went down.",
        "They played with the {toy} all day, and it was much more fun with two.",
    ]);
}

/// A promise is made, something nicer comes up, and the promise is kept.
fn promise(t: &mut Teller) {
    let (task, done) = *t.rng.pick(&TASKS);
    let (fun, _) = *t.rng.pick(&OUTINGS);
    t.set("task", task);
    t.set("done", done);
    t.set("fun", fun);
    t.say(&[
        "{Time}, {friend} had a lot of work to do. `Will you help me {task} tomorrow?` {fhe} asked.",
        "{Time}, {friend} asked {hero} to help {fhim} {task} the next day.",
    ]);
    t.say(&[
        "`I promise,` said {hero}.",
        "`Yes, I will come. I promise,` said {hero}.",
        "{Hero} promised to come.",
    ]);
    t.say(&[
        "The next day the sky was blue. Some children called, `{Hero}, come and {fun} with us at {place}!`",
        "The next morning was warm and bright. `We want to {fun} at {place},` said the other children. `Come along, {hero}!`",
    ]);
    t.say(&[
        "{Hero} wanted to go very much.",
        "Oh, how {hero} wanted to go with them!",
        "For a moment {he} forgot everything else.",
    ]);
    t.paragraph();
    t.say(&[
        "But then {he} remembered {his} promise. `I cannot come,` {he} said. `I promised to help {friend} {task}.`",
        "But a promise is a promise. {He} told them that {friend} was waiting for {him}.",
        "`Not today,` {he} said at last. `{Friend} needs me, and I gave my word.`",
    ]);
    t.say(&[
        "So {he} went to {friend}'s house, and together they {done}.",
        "{He} ran to {friend}. They {done} together, and the work was done by noon.",
    ]);
    t.say(&[
        "`You kept your promise,` said {friend}. `You are a true friend.`",
        "{Friend} was {glad}. `I knew you would come,` {fhe} said.",
        "`Thank you for keeping your promise,` said {friend}.",
    ]);
    t.say(&[
        "In the afternoon they both went to {place}, and they could {fun} after all.",
        "Then there was still time to {fun}, and they went to {place} together.",
        "After that they were too tired to {fun}, but {hero} was {glad}.",
    ]);
}

/// Two gather things, add them up and share them.
fn gather(t: &mut Teller) {
    let fruit = *t.rng.pick(&FRUITS);
    let (n, m) = (t.number(2, 9), t.number(2, 9));
    let half = (n + m) / 2;
    for (key, number) in [("n", n), ("m", m), ("sum", n + m), ("half", half)] {
        t.set(key, &count(number, fruit));
    }
    t.set("fruits", fruit.1);
    t.set("fruit", fruit.0);
    t.say(&[
        "{Time}, {hero} and {friend} went to {place} to look for {fruits}.",
        "{Time}, the two friends took a basket and walked to {place}. They wanted to find {fruits}.",
    ]);
    t.say(&[
        "They looked in the grass and behind every bush.",
        "They looked high and low, and the sun was warm on their backs.",
        "`Let us see who finds more,` said {friend}.",
    ]);
    t.say(&[
        "{Hero} found {n}, and {friend} found {m}.",
        "Soon {hero} had {n}. {Friend} had {m}.",
        "`I have {n},` said {hero}. `And I have {m},` said {friend}.",
    ]);
    t.paragraph();
    t.say(&[
        "`How many do we have together?` asked {friend}.",
        "{Friend} asked how many {fruits} they had in all.",
        "`Let us count them all,` said {friend}.",
    ]);
    t.say(&[
        "They put the {fruits} in a long row and counted.",
        "{Hero} counted slowly and touched each {fruit}.",
        "They counted once, and then once more to be sure.",
    ]);
    t.say(&[
        "`{n} and {m} make {sum},` said {hero}.",
        "{n} and {m} make {sum}.",
        "`{n} and {m},` said {hero}. `That makes {sum}!`",
    ]);
    if (n + m).is_multiple_of(2) {
        t.say(&[
            "They shared them, and each of them got {half}.",
            "`Then each of us gets {half},` said {friend}, and so they shared them.",
        ]);
    } else {
        t.say(&[
            "Each of them took {half}, and they gave the last {fruit} to {his} mother.",
            "`Each of us gets {half}, and one {fruit} is left,` said {friend}. They gave it to {a color} bird.",
        ]);
    }
    t.good_night();
}

/// Treats are given away one group after the other; what is left is told.
fn give_away(t: &mut Teller) {
    let treat = *t.rng.pick(&TREATS);
    let n = t.number(5, 10);
    let (first, second) = (t.number(1, 2), t.number(1, n - 3));
    let rest = n - first - second;
    let keys =
        [("n", n), ("first", first), ("second", second), ("after", n - first), ("rest", rest)];
    for (key, number) in keys {
        t.set(key, &count(number, treat));
    }
    t.set("treats", treat.1);
    t.say(&[
        "{Time}, {his} grandmother gave {hero} a bag with {n}.",
        "{Time}, {hero} came home and found {n} on a plate. They were all for {him}.",
    ]);
    t.say(&[
        "{He} could hardly wait to eat them.",
        "They smelled sweet, and {hero} was hungry.",
        "`What a fine day,` said {hero}.",
    ]);
    t.say(&[
        "At {place} {he} met {friend}, who looked at the {treats}. `You may have {first},` said {hero}.",
        "On the way to {place} {he} met {friend}. `Are you hungry?` asked {hero} and gave {fhim} {first}.",
    ]);
    t.say(&[
        "{n} take away {first} leaves {after}.",
        "Now {hero} had {after}.",
        "{Friend} thanked {him}, and {hero} counted again. There were {after}.",
    ]);
    t.paragraph();
    t.say(&[
        "Then an old {color} dog came along, thin and hungry, and {hero} gave it {second}.",
        "A little later {he} saw some small birds in the cold grass and gave them {second}.",
        "Then {his} little sister came. `Please, may I have some?` she asked, and {hero} gave her {second}.",
    ]);
    t.say(&[
        "{after} take away {second} leaves {rest}.",
        "So {rest} remained, because {after} take away {second} leaves {rest}.",
    ]);
    t.say(&[
        "{Hero} ate what was left, {rest}, and was {glad}.",
        "`I have {rest} left,` {he} said, `and that is enough for me.`",
    ]);
    t.say(&[
        "`You have a good heart,` said {friend}.",
        "The next day {friend} came with a gift, because {hero} had been so kind.",
        "Giving made {him} happier than eating.",
    ]);
}

/// Coins are paid, and the rest is counted.
fn market(t: &mut Teller) {
    t.draw("thing", &THINGS);
    let (cost, rest) = (t.number(2, 8), t.number(1, 4));
    let coin = ("coin", "coins");
    for (key, number) in [("n", cost + rest), ("cost", cost), ("rest", rest)] {
        t.set(key, &count(number, coin));
    }
    t.say(&[
        "{Time}, {hero} went to the shop with {n} in {his} pocket.",
        "{Hero} had saved {n}. {Time}, {he} went to the shop with {friend}.",
    ]);
    t.say(&[
        "There were many fine things to see, but {hero} liked {a color} {thing} best.",
        "In the window was {a color} {thing}. `Look at that!` said {hero}.",
        "{He} looked at {a color2} hat and a big bell, but {he} wanted the {color} {thing}.",
    ]);
    t.say(&[
        "`How much is the {thing}?` {he} asked. `It costs {cost},` said the woman.",
        "{Hero} asked what it cost. The man in the shop said that it cost {cost}.",
    ]);
    t.say(&[
        "{Hero} counted {his} coins with care.",
        "{Hero} put the coins on the table, one by one.",
    ]);
    t.paragraph();
    t.say(&[
        "{He} paid {cost}, and {n} take away {cost} leaves {rest}.",
        "`{n} take away {cost} leaves {rest},` {he} said and paid.",
    ]);
    t.say(&[
        "So {he} had the {color} {thing} and {rest} left.",
        "Now the {thing} was {his} very own, and {he} still had {rest}.",
    ]);
    t.say(&[
        "Outside {he} met {friend}. `What did you buy?` asked {friend}. `{A color} {thing},` said {hero}.",
        "{He} showed it to {friend}, who said that it was the finest {thing} in the world.",
    ]);
    t.say(&[
        "With the rest of the money they bought something sweet and shared it.",
        "{Hero} kept the rest for another day.",
        "{Hero} gave what was left to {his} mother, who was proud of {him}.",
    ]);
    t.good_night();
}

/// Animals are counted on a walk.
fn counting_walk(t: &mut Teller) {
    let numbers = [t.number(1, 3), t.number(1, 3), t.number(1, 3)];
    let first = t.number(0, SEEN.len() as u64 - 1) as usize;
    let step = t.number(1, 4) as usize;
    for (i, key) in ["one", "two", "three"].into_iter().enumerate() {
        let animal = SEEN[(first + i * step) % SEEN.len()];
        t.set(key, &count_in_words(numbers[i], animal));
    }
    t.set("sum", NUMBERS[numbers.iter().sum::<u64>() as usize]);
    t.set("before", NUMBERS[(numbers[0] + numbers[1]) as usize]);
    t.say(&[
        "{Time}, {hero} and {friend} went for a walk to {place}. `Let us count all the animals we see,` said {friend}.",
        "{Time}, the two friends walked to {place}. {Hero} wanted to count every animal on the way.",
    ]);
    t.say(&[
        "First they saw {one} near the road.",
        "Behind the first gate they saw {one}.",
        "Before long they saw {one} in the grass.",
    ]);
    t.say(&[
        "Then they saw {two}. `That makes {before},` said {hero}.",
        "A little later they saw {two}. `Now we have {before},` {hero} said.",
    ]);
    t.say(&[
        "They walked on for a long time and saw nothing at all.",
        "Then it was quiet, and only the wind moved in the trees.",
        "They stopped to drink some water, and {friend} told a funny story.",
    ]);
    t.paragraph();
    t.say(&[
        "`Look over there!` cried {friend}. {Three} came around the corner.",
        "At last they came to {place}, and there they saw {three}.",
    ]);
    t.say(&[
        "`{One}, {two} and {three},` said {hero}. `How many is that?`",
        "{Hero} said it all again. `{One}, {two} and {three}.`",
    ]);
    t.say(&[
        "{Friend} counted them in {fhis} head. `That is {sum} in all,` {fhe} said.",
        "`It is {sum},` said {friend}, who had counted too.",
    ]);
    t.say(&[
        "When they came home, {hero} told {his} mother that they had seen {sum} animals.",
        "`We saw {sum} animals today,` {hero} told {his} father that night.",
        "{Hero} drew all {sum} of them in a little book.",
    ]);
    t.good_night();
}

/// Something frightens the hero until it is seen for what it is.
fn afraid(t: &mut Teller) {
    let fear = *t.rng.pick(&FEARS);
    t.set("fear", fear.what);
    t.set("sign", fear.sign);
    t.set("advice", fear.advice);
    t.set("truth", fear.truth);
    t.say(&[
        "There was one thing that {hero} was afraid of, and that was {fear}.",
        "{Hero} was brave most of the time, but {he} was afraid of {fear}.",
        "Nobody knew that {hero} was afraid of {fear}.",
    ]);
    t.say(&["One evening {sign}.", "Then, one night, {sign}.", "It was late, and {sign}."]);
    t.say(&[
        "{Hero} hid under a blanket and did not move.",
        "{His} heart beat fast, and {he} wanted to run away.",
        "{He} called for help with a very small voice.",
    ]);
    t.paragraph();
    t.say(&[
        "{Friend} was staying for the night and heard {him}. `Are you afraid?` asked {friend}. `Yes,` said {hero}.",
        "{Friend} came and sat down beside {him}. {Hero} told {fhim} that {he} was afraid of {fear}.",
    ]);
    t.say(&[
        "`I was afraid of {fear} too,` said {friend}. `{Advice}.`",
        "{Friend} did not laugh. `{Advice},` {fhe} said. `I will stay with you.`",
    ]);
    t.say(&[
        "So they did it together, hand in hand, and {truth}.",
        "{Hero} took a deep breath and did it, and {truth}.",
    ]);
    t.say(&[
        "`Is that all?` said {hero}, and they both had to laugh.",
        "{Hero} was surprised. There was nothing to be afraid of.",
        "`It is not so bad,` said {hero}.",
    ]);
    t.say(&[
        "From that day on {hero} was not afraid of {fear} any more.",
        "After that night {he} never feared {fear} again.",
        "And when {his} little brother was afraid of {fear}, {hero} knew just what to say.",
    ]);
}

/// Food is shared, and the kindness comes back when it is needed.
fn share_and_repay(t: &mut Teller) {
    t.draw("food", &FOODS);
    let (trouble, help, end) = *t.rng.pick(&TROUBLES);
    t.set("trouble", trouble);
    t.set("help", help);
    t.set("end", end);
    t.say(&[
        "{Time}, {hero} and {friend} went on a long walk to {place}. At noon they sat down to eat.",
        "{Time}, they walked along the path to {place}. When they were hungry, they sat down on a log.",
    ]);
    t.say(&[
        "{Hero} had brought some {food}. But {friend} looked into {fhis} bag, and there was no food in it.",
        "`I forgot my lunch!` said {friend}. {Hero} had only a little {food}.",
    ]);
    t.say(&[
        "`We can share my {food},` said {hero}, and gave {friend} half of it.",
        "{Hero} cut the {food} in two and gave {friend} the bigger half.",
    ]);
    t.say(&[
        "`That is kind of you,` said {friend}. `I will not forget it.`",
        "{Friend} ate it all and said that it was the best {food} in the world.",
    ]);
    t.paragraph();
    t.say(&["On the way back {trouble}.", "But when they went home, {trouble}."]);
    t.say(&[
        "`What shall we do now?` asked {hero}.",
        "{Hero} was {sad} and did not know what to do.",
        "`Oh no,` said {hero}. `And we are so far from home.`",
    ]);
    t.say(&[
        "`You shared your {food} with me,` said {friend}. `Now I will share my {help} with you.`",
        "{Friend} smiled and took {a help} out of {fhis} bag. `You shared with me, so I will share with you.`",
    ]);
    t.say(&["So {end}.", "And so {end}."]);
    t.say(&[
        "`I am glad that we are friends,` said {hero}.",
        "One good deed had brought another.",
        "{Hero} thanked {friend}, and {friend} thanked {hero}.",
    ]);
}

/// A thing breaks, and the friend knows how to mend that part.
fn repair(t: &mut Teller) {
    let (toy, part, tool, mended) = *t.rng.pick(&REPAIRS);
    t.set("toy", toy);
    t.set("part", part);
    t.set("tool", tool);
    t.set("mended", mended);
    t.say(&[
        "{Time}, {hero} took {his} {color} {toy} to {place}.",
        "{Hero} had {a color} {toy}. {Time}, {he} took it outside.",
    ]);
    t.say(&[
        "{He} ran too fast and fell over a stone. Snap! The {part} of the {toy} was broken.",
        "Suddenly something went snap. `Oh no! The {part} is broken!` cried {hero}.",
        "{He} was not careful, and the {part} broke.",
    ]);
    t.say(&[
        "{Hero} was {sad}, because {he} loved the {toy}.",
        "{He} tried to mend it, but {he} did not know how, and {he} was {sad}.",
    ]);
    t.paragraph();
    t.say(&[
        "{He} carried it to {friend}. `Can you help me? The {part} of my {toy} is broken.`",
        "{Friend} came along the road and asked what had happened. {Hero} showed {fhim} the broken {part}.",
    ]);
    t.say(&[
        "`I think I can mend it,` said {friend}. `I only need {tool}.`",
        "{Friend} looked at it closely and said that {fhe} needed {tool}.",
    ]);
    t.say(&[
        "{Hero} ran home to get {tool}.",
        "They looked for {tool} and soon found what they needed.",
    ]);
    t.say(&[
        "Then {friend} {mended}, and {hero} held the {toy} still.",
        "{Hero} watched while {friend} {mended}.",
    ]);
    t.say(&[
        "Soon the {color} {toy} was as good as new.",
        "When it was done, nobody could see that the {part} had been broken.",
    ]);
    t.say(&[
        "`How can I thank you?` asked {hero}. `Let me play with it too,` said {friend}, and so they played together.",
        "{Hero} was {glad} and gave {friend} a big hug.",
        "`Now you know how to do it,` said {friend}, and {hero} said that next time {he} would be careful.",
    ]);
    t.good_night();
}

/// Rain spoils a plan; the day is saved, and the plan comes true the next day.
fn rainy_day(t: &mut Teller) {
    let (plan, done) = *t.rng.pick(&OUTINGS);
    t.set("plan", plan);
    t.set("done", done);
    t.draw("indoors", &INDOORS);
    t.say(&[
        "{Time}, {hero} and {friend} made a plan. They wanted to go to {place} and {plan}.",
        "`Shall we go to {place} and {plan}?` asked {friend} {time}. `Yes!` said {hero}.",
    ]);
    t.say(&[
        "But when they opened the door, big drops of rain fell from the sky.",
        "But dark clouds came over the hills, and it began to rain.",
        "Then there was thunder, and the rain came down.",
    ]);
    t.say(&[
        "`Now we cannot {plan},` said {hero}, who was {sad}.",
        "{Hero} looked out of the window and was {sad}. It was too wet to {plan}.",
    ]);
    t.paragraph();
    t.say(&[
        "`We can have fun inside,` said {friend}.",
        "`Do not be sad,` said {friend}. `I have an idea.`",
        "{Friend} said that a rainy day could be a good day too.",
    ]);
    t.say(&[
        "So they {indoors}, and the time went by quickly.",
        "They {indoors}, and soon they forgot about the rain.",
    ]);
    t.say(&[
        "When they looked up, there was a rainbow over {place}.",
        "In the evening the rain stopped, and the sky was clear.",
    ]);
    t.paragraph();
    t.say(&[
        "The next day the sun was out. They went to {place} and {done}, as they had planned.",
        "The next morning was warm and dry. `Today we can {plan}!` cried {hero}. And they went to {place} and {done} all day.",
    ]);
    t.say(&[
        "`Which day was better?` asked {friend}. `Both,` said {hero}.",
        "{Hero} said that the rainy day had been just as good.",
        "It was fun, and it was worth the wait.",
    ]);
}

/// A wish is heard, remembered, and granted on a birthday.
fn birthday(t: &mut Teller) {
    t.draw("thing", &THINGS);
    t.say(&[
        "{Time}, they walked past a shop. `Look at that {color} {thing},` said {friend}. `I wish I had one like it.`",
        "{Time}, {friend} said that {fhe} had always wanted {a color} {thing}.",
    ]);
    t.say(&["{Hero} said nothing, but {he} did not forget it.", "{Hero} remembered that."]);
    t.say(&["Soon it would be {friend}'s birthday.", "{Friend}'s birthday was only a week away."]);
    t.say(&[
        "{Hero} worked in the garden for a neighbor and saved every coin.",
        "{Hero} asked {his} father for help, and they worked on a gift every evening.",
        "{Hero} swept the floor at the shop for three days to earn some money.",
    ]);
    t.paragraph();
    t.say(&[
        "Then the day came. {Hero} gave {friend} a box with {a color2} ribbon.",
        "On the birthday all the friends came, and there was a cake. {Hero} brought a big box.",
    ]);
    t.say(&[
        "`What can it be?` asked {friend}. `Is it a puzzle?` `No,` said {hero}. `Open it!`",
        "{Friend} shook the box. `I cannot guess what it is,` {fhe} said.",
    ]);
    t.say(&[
        "{Friend} opened it, and inside was {a color} {thing}!",
        "In the box lay {a color} {thing}.",
    ]);
    t.say(&[
        "`How did you know?` asked {friend}. `You told me yourself,` said {hero}. `I was listening.`",
        "`It is just what I wished for!` cried {friend}. {Hero} smiled, because {he} had remembered.",
    ]);
    t.say(&[
        "{Friend} was {glad} and carried the {thing} around all day.",
        "From then on {friend} never went out without the {color} {thing}.",
        "It was the best birthday of all.",
    ]);
}

/// A pet is found and goes back to the one who can describe it.
fn lost_pet(t: &mut Teller) {
    let (pet, home) = *t.rng.pick(&PETS);
    t.set("pet", pet);
    t.set("home", home);
    t.draw("mark", &MARKS);
    t.say(&[
        "{Time}, {hero} heard a small sound near {place}. It was {a pet} with {mark}.",
        "{Time}, {hero} walked to {place}. There, all alone, sat {a pet} with {mark}.",
    ]);
    t.say(&[
        "`Are you lost?` {he} asked. The {pet} looked at {him} with big eyes.",
        "It was cold and hungry, so {he} gave it some water and a warm place to sleep.",
    ]);
    t.say(&[
        "{Hero} wanted to keep it. But {he} knew that somebody must be looking for it.",
        "`I would love to keep you,` said {hero}, `but somebody misses you.`",
    ]);
    t.paragraph();
    t.say(&[
        "The next day {he} met {friend}, who was {sad}. `My {pet} ran away,` {fhe} said.",
        "Then {friend} came down the road. `Have you seen {a pet}?` {fhe} asked. `I cannot find mine.`",
    ]);
    t.say(&[
        "`What does it look like?` asked {hero}. `It has {mark},` said {friend}.",
        "{Hero} asked what it looked like, and {friend} said that it had {mark}.",
    ]);
    t.say(&[
        "`Then I have good news,` said {hero}. `I found it near {place}.`",
        "`With {mark}? Then it must be yours!` cried {hero}. `I found it near {place}.`",
    ]);
    t.say(&[
        "They ran to the house, and the {pet} jumped into {friend}'s arms.",
        "When the {pet} saw {friend}, it ran to {fhim} at once.",
    ]);
    t.say(&[
        "{Friend} took it home and put it in {home}. `You may visit it every day,` {fhe} told {hero}.",
        "Soon it slept in {home} again, and {hero} came to see it every day.",
    ]);
    t.say(&[
        "{Hero} was {glad} that the {pet} was home.",
        "`You did the right thing,` {his} mother told {him}.",
    ]);
}

/// A riddle gets a wrong answer, another clue, and the right answer.
fn riddle(t: &mut Teller) {
    let riddle = *t.rng.pick(&RIDDLES);
    t.set("clue", riddle.clue);
    t.set("wrongly", riddle.wrong);
    t.set("more", riddle.more);
    t.set("answer", riddle.answer);
    t.say(&[
        "{Time}, they sat in the grass near {place}. `I know a riddle,` said {friend}.",
        "{Time}, on the way to {place}, {friend} asked {hero} if {he} liked riddles. `Yes, tell me one,` said {hero}.",
    ]);
    t.say(&[
        "`Listen well. {Clue}. What am I?`",
        "`Here it is,` said {friend}. `{Clue}. What am I?`",
    ]);
    t.say(&[
        "{Hero} looked up at the sky and thought for a long time.",
        "{Hero} closed {his} eyes to think.",
        "`Hmm,` said {hero}. `That is hard.`",
    ]);
    t.say(&[
        "`Are you {wrongly}?` asked {hero}. `No,` said {friend}, `that is not it.`",
        "{Hero} said that it must be {wrongly}, but {friend} shook {fhis} head.",
    ]);
    t.paragraph();
    t.say(&[
        "`I will help you,` said {friend}. `{More}.`",
        "{Friend} laughed. `Here is one more clue. {More}.`",
    ]);
    t.say(&[
        "{Hero} jumped up. `Now I know! You are {answer}!`",
        "`Oh, that is easy,` said {hero}. `It is {answer}!`",
        "{Hero} thought again. Then {he} smiled and said that it was {answer}.",
    ]);
    t.say(&[
        "`Yes, {answer}!` said {friend}. `You are clever.`",
        "`That is right,` said {friend}.",
    ]);
    t.say(&[
        "Then it was {hero}'s turn to ask a riddle, and they went on until it was dark.",
        "In the evening {hero} told the riddle to {his} mother, and she could not guess it.",
        "After that {hero} told {friend} another one, and {friend} could not guess it at all.",
    ]);
    t.good_night();
}

/// A seed is watered with patience and becomes what it was meant to be.
fn seed(t: &mut Teller) {
    let (plant, fruit, end) = *t.rng.pick(&PLANTS);
    t.set("plant", plant);
    t.set("fruit", fruit);
    t.set("end", end);
    let days = t.number(3, 9);
    t.set("days", NUMBERS[days as usize]);
    t.say(&[
        "{Time}, {friend} gave {hero} a small seed. `It is {a plant} seed,` {fhe} said. `Give it water every day.`",
        "{Time}, {hero} found {a plant} seed in a box and showed it to {friend}. `Put it in the ground and give it water,` said {friend}.",
    ]);
    t.say(&[
        "{Hero} put the seed in the ground behind the house and gave it some water.",
        "{Hero} made a small hole in the garden, put the seed in, and covered it with earth.",
    ]);
    t.say(&[
        "The next day {he} looked, but there was nothing to see. `Nothing is growing,` {he} said.",
        "Every morning {he} ran to look, but there was only brown earth. {Hero} was {sad}.",
    ]);
    t.say(&[
        "`You have to wait,` said {friend}. `Good things take time.`",
        "{Friend} told {him} to be patient.",
    ]);
    t.paragraph();
    t.say(&[
        "So {hero} gave it water every day. After {days} days there was a little green leaf!",
        "{Hero} waited, and {he} gave it water every day. Then, after {days} days, a green leaf came out of the earth.",
    ]);
    t.say(&[
        "It grew and grew in the warm sun.",
        "It grew taller every week.",
        "The sun was warm, the rain was soft, and the plant grew.",
    ]);
    t.say(&[
        "At the end of summer there stood {fruit}.",
        "Then, one day, {hero} called, `Come and look!` Behind the house stood {fruit}.",
    ]);
    t.say(&["{Hero} and {friend} {end}.", "Together they {end}."]);
    t.say(&[
        "`You were right,` said {hero}. `Good things take time.`",
        "{Hero} kept one seed of the {plant} for the next year.",
        "`I am glad that I waited,` said {hero}.",
    ]);
}

/// The fast one rests too early, and the steady one wins.
fn race(t: &mut Teller) {
    t.draw("rest", &RESTS);
    t.say(&[
        "{Hero} was the fastest runner of all, and {he} told everybody so.",
        "`Nobody runs as fast as I do,` said {hero} {time}.",
    ]);
    t.say(&[
        "`Then let us race to {place},` said {friend}.",
        "{Friend} was slow, but {fhe} asked {hero} to race with {fhim} to {place}.",
    ]);
    t.say(&[
        "{Hero} laughed. `You will never win!`",
        "{Hero} said that it would be the easiest race of {his} life.",
    ]);
    t.say(&[
        "`One, two, three, go!` they called. {Hero} ran off like the wind, and {friend} was soon far behind.",
        "They counted to three and ran. After a minute {hero} could not even see {friend} any more.",
    ]);
    t.paragraph();
    t.say(&[
        "`I have so much time,` thought {hero}. So {he} stopped to {rest}.",
        "Halfway to {place}, {hero} stopped to {rest}. `{Friend} is so slow,` {he} said.",
    ]);
    t.say(&[
        "But {friend} did not stop. Step by step {fhe} went on, past the trees and past {hero}.",
        "{Friend} was tired, but {fhe} went on and on and never stopped.",
    ]);
    t.say(&[
        "When {hero} looked up, {friend} was almost at {place}. {Hero} ran as fast as {he} could, but it was too late.",
        "At last {hero} ran on. But when {he} came to {place}, {friend} was already there.",
    ]);
    t.say(&["{Friend} had won the race!", "And so {friend} was the winner."]);
    t.paragraph();
    t.say(&[
        "`I should not have stopped to {rest},` said {hero}. `You won because you did not give up.`",
        "{Hero} said that {he} was sorry for laughing. `You were better than I was,` {he} said.",
    ]);
    t.say(&[
        "{Friend} smiled. `Shall we walk home together, slowly?`",
        "After that {hero} never laughed at a slow runner again.",
        "They shook hands, and {hero} never boasted again.",
    ]);
}

/// Something breaks, a lie is told, and the truth makes it good.
fn broken_cup(t: &mut Teller) {
    t.draw("dish", &DISHES);
    t.draw("excuse", &EXCUSES);
    t.say(&[
        "{Time}, {hero} and {friend} played ball in the house. The ball hit the {color} {dish}, and it broke.",
        "{Time}, {hero} ran through the kitchen and bumped into the table. The {color} {dish} fell down and broke.",
    ]);
    t.say(&[
        "It was the {dish} that {his} mother loved most.",
        "`Oh no!` said {hero}. `That was the best {dish} my mother had.`",
    ]);
    t.say(&[
        "When {his} mother came home, she asked who had broken it. `It was {excuse},` said {hero}.",
        "`Who broke my {dish}?` asked {his} mother. {Hero} was afraid. `It was {excuse},` {he} said.",
    ]);
    t.say(&[
        "{His} mother believed {him} and swept the floor.",
        "{His} mother said nothing and picked up the pieces.",
    ]);
    t.paragraph();
    t.say(&[
        "That night {hero} could not sleep, because {he} had not told the truth.",
        "But {hero} could not eat {his} dinner. It was not true, and {he} knew it.",
    ]);
    t.say(&[
        "{He} asked {friend} what to do. `Tell her the truth,` said {friend}.",
        "{Friend} told {him}, `You will feel better when you tell her the truth.`",
    ]);
    t.say(&[
        "So {hero} went to {his} mother. `It was not {excuse}. I broke the {dish}, and I am sorry.`",
        "{Hero} told {his} mother that it had not been {excuse}. `I did it myself,` {he} said. `I am sorry.`",
    ]);
    t.say(&[
        "{His} mother gave {him} a hug. `A {dish} can break,` she said, `but I am proud that you told me the truth.`",
        "`Thank you for telling me the truth,` said {his} mother. `That means more to me than any {dish}.`",
    ]);
    t.say(&[
        "{Hero} and {friend} saved their coins and bought her a new {color2} {dish}.",
        "The next day they found some glue and mended the {color} {dish}.",
        "After that {hero} was always careful in the house.",
    ]);
}
