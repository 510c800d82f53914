//! What people ask for, mostly in Greek, with product names in English, and what an enhancer makes out of it.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::stand_in::script::mixed;

/// What sort of edit a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Greek words that are to stand in the picture.
    Text,
    /// Another background.
    Background,
    /// Something is to go.
    Removal,
    /// Another colour.
    Colour,
    /// A whole advertisement.
    Advertisement,
}

impl Kind {
    /// The category under which the task is logged.
    #[must_use]
    pub const fn category(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Background => "background",
            Self::Removal => "removal",
            Self::Colour => "colour",
            Self::Advertisement => "advertisement",
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id, as a board would name it.
    pub id: String,
    /// What sort of edit it asks for.
    pub kind: Kind,
    /// What the person wrote.
    pub prompt: String,
    /// The product.
    pub product: &'static str,
}

/// What an enhancer makes out of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Understood {
    /// The request in English, without the words that are to stand in the picture: the start of every prompt.
    pub(super) english: String,
    /// The words that are to stand in the picture.
    pub(super) words: Option<String>,
    /// The product.
    pub(super) product: String,
}

/// The task of that number. Equal seeds give equal tasks, in whatever order they are asked for.
#[must_use]
pub fn task(seed: u64, number: u64) -> Task {
    let mut rng = StdRng::seed_from_u64(mixed(seed, number));
    // None of the three lists is empty, so the first entries are never needed.
    let frame = FRAMES.choose(&mut rng).unwrap_or(&FRAMES[0]);
    let product = PRODUCTS.choose(&mut rng).unwrap_or(&PRODUCTS[0]);
    let words = WORDS.choose(&mut rng).unwrap_or(&WORDS[0]);
    Task {
        id: format!("86c{:05x}", (mixed(seed, 0) ^ number) & 0xf_ffff),
        kind: frame.kind,
        prompt: frame.greek.replace("{product}", product).replace("{words}", words),
        product,
    }
}

/// Reads a request. One in words that this world does not know is taken as it stands, up to a sentence's length, with
/// what stands in «…» as the words for the picture.
pub(super) fn understood(request: &str) -> Understood {
    let known = FRAMES.iter().find_map(|frame| Some((frame, filled(frame.greek, request.trim())?)));
    if let Some((frame, found)) = known {
        let value = |name: &str| {
            let filled = found.iter().find(|(place, _)| *place == name);
            filled.map(|(_, value)| (*value).to_owned())
        };
        let product = value("product").unwrap_or_default();
        let english = frame.english.replace("{product}", &product);
        return Understood { english, words: value("words"), product };
    }
    let quoted = request.split_once('«').and_then(|(_, rest)| rest.split_once('»'));
    Understood {
        english: format!("Edit the picture: {}", request.chars().take(400).collect::<String>()),
        words: quoted.map(|(words, _)| words.to_owned()),
        product: "product".to_owned(),
    }
}

/// What sort of edit a prompt asks for. A prompt that no frame begins is about the background, the easiest.
pub(super) fn kind_of(prompt: &str) -> Kind {
    let begins = |frame: &&Frame| {
        let (head, tail) = frame.english.split_once("{product}").unwrap_or((frame.english, ""));
        prompt.strip_prefix(head).is_some_and(|rest| rest.contains(tail))
    };
    FRAMES.iter().find(begins).map_or(Kind::Background, |frame| frame.kind)
}

/// What stands at the places of a frame in a text; none when the text is not that frame, filled.
fn filled<'t>(frame: &'static str, text: &'t str) -> Option<Vec<(&'static str, &'t str)>> {
    let (head, rest) = frame.split_once('{').unwrap_or((frame, ""));
    let text = text.strip_prefix(head)?;
    if rest.is_empty() {
        return text.is_empty().then(Vec::new);
    }
    let (name, behind) = rest.split_once('}')?;
    let next = behind.split('{').next().unwrap_or_default();
    // The last place takes all that is left but the end; an earlier one, as little as it can.
    let end =
        if behind.contains('{') { text.find(next)? } else { text.len().checked_sub(next.len())? };
    let value = text.get(..end)?;
    let mut found = filled(behind, text.get(end..)?)?;
    found.push((name, value));
    Some(found)
}

struct Frame {
    kind: Kind,
    greek: &'static str,
    english: &'static str,
}

const fn frame(kind: Kind, greek: &'static str, english: &'static str) -> Frame {
    Frame { kind, greek, english }
}

const FRAMES: [Frame; 18] = [
    frame(
        Kind::Text,
        "Γράψε «{words}» κάτω δεξιά στην αφίσα του {product}, με λευκά γράμματα.",
        "Add a line of white text at the bottom right of the {product} poster.",
    ),
    frame(
        Kind::Text,
        "Άλλαξε τον τίτλο στη φωτογραφία του {product} σε «{words}» και κράτα την ίδια γραμματοσειρά.",
        "Change the headline in the {product} photo and use the same typeface.",
    ),
    frame(
        Kind::Text,
        "Βάλε πάνω αριστερά το μήνυμα «{words}» και άσε το λογότυπο {product} όπως είναι.",
        "Put a short message at the top left, beside the {product} logo.",
    ),
    frame(
        Kind::Text,
        "Στη συσκευασία {product} το κείμενο πρέπει να γίνει «{words}», με όλους τους τόνους.",
        "Correct the wording on the {product} package.",
    ),
    frame(
        Kind::Background,
        "Άλλαξε το φόντο του {product} σε παραλία την ώρα του ηλιοβασιλέματος.",
        "Replace the background of the {product} with a beach at sunset.",
    ),
    frame(
        Kind::Background,
        "Βάλε το {product} πάνω σε ξύλινο τραπέζι, σε αυλή στις Κυκλάδες με μπουκαμβίλια.",
        "Place the {product} on a wooden table in a Cycladic courtyard with bougainvillea.",
    ),
    frame(
        Kind::Background,
        "Κάνε καθαρό λευκό φόντο για το e-shop, με απαλή σκιά κάτω από το {product}.",
        "Give the {product} a clean white shop background and a soft shadow underneath.",
    ),
    frame(
        Kind::Background,
        "Θέλω χειμωνιάτικο σκηνικό με χιόνι πίσω από το {product}, το προϊόν να μείνει ίδιο.",
        "Put a snowy winter scene behind the {product}.",
    ),
    frame(
        Kind::Removal,
        "Βγάλε τον άνθρωπο που περνάει πίσω από το {product}.",
        "Remove the person walking behind the {product}.",
    ),
    frame(
        Kind::Removal,
        "Σβήσε τα καλώδια και την πρίζα δίπλα στο {product}.",
        "Remove the cables and the socket beside the {product}.",
    ),
    frame(
        Kind::Removal,
        "Αφαίρεσε την παλιά ετικέτα τιμής από το {product}, το υπόλοιπο ράφι να μείνει ίδιο.",
        "Remove the old price tag from the {product} on the shelf.",
    ),
    frame(
        Kind::Removal,
        "Καθάρισε τις αντανακλάσεις πάνω στο μπουκάλι {product}.",
        "Clean the reflections off the {product} bottle.",
    ),
    frame(
        Kind::Colour,
        "Κάνε το {product} σκούρο μπλε, όπως στο brand book, χωρίς να αλλάξει το λογότυπο.",
        "Recolour the {product} to the deep blue of the brand book.",
    ),
    frame(
        Kind::Colour,
        "Άλλαξε το χρώμα της συσκευασίας {product} από κόκκινο σε πράσινο.",
        "Change the colour of the {product} package from red to green.",
    ),
    frame(
        Kind::Colour,
        "Κάνε πιο ζεστά τα χρώματα, αλλά το {product} να κρατήσει το δικό του χρώμα.",
        "Warm the colours of the scene around the {product}.",
    ),
    frame(
        Kind::Advertisement,
        "Φτιάξε καλοκαιρινό story για το {product} με τη φράση «{words}» και φέτες λεμονιού γύρω.",
        "Make a summer story for {product} with lemon slices around it and a short phrase.",
    ),
    frame(
        Kind::Advertisement,
        "Δημιούργησε banner Black Friday για το {product}: μεγάλο «{words}» στο κέντρο, μαύρο φόντο.",
        "Make a Black Friday banner for {product} with large central text on black.",
    ),
    frame(
        Kind::Advertisement,
        "Ετοίμασε χριστουγεννιάτικο post για το {product} με λαμπάκια και το μήνυμα «{words}».",
        "Make a Christmas post for {product} with fairy lights and a greeting.",
    ),
];

/// Made-up names, as of things that a Greek agency might advertise.
const PRODUCTS: [&str; 14] = [
    "Sunline SPF 50",
    "BlueCove Gin",
    "NordPeak Jacket",
    "Kafeo Espresso",
    "AquaPure 1L",
    "Olivia Extra Virgin",
    "Terra Yoghurt",
    "CityRide e-Scooter",
    "Melissi Honey",
    "SoftNest Pillow",
    "Zest Lemonade",
    "Lumo Desk Lamp",
    "PetPal Snacks",
    "Velvet Lip Tint",
];

const WORDS: [&str; 12] = [
    "Καλό Καλοκαίρι",
    "Μόνο για σήμερα",
    "Νέα γεύση, ίδια αγάπη",
    "Έκπτωση έως 40%",
    "Δοκίμασέ το παγωμένο",
    "Από τον τόπο μας",
    "Χρόνια Πολλά",
    "Κάθε μέρα πιο κοντά σου",
    "Δωρεάν αποστολή",
    "Ξύπνα αλλιώς",
    "Φτιαγμένο στην Ελλάδα",
    "Δύο στην τιμή του ενός",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_gives_the_same_tasks_again_and_another_seed_others() {
        assert_eq!(task(7, 12), task(7, 12));
        let prompts = |seed| (0..40).map(|number| task(seed, number).prompt).collect::<Vec<_>>();
        assert_ne!(prompts(7), prompts(8));
    }

    #[test]
    fn no_two_tasks_of_a_run_share_an_id_and_most_differ_in_words() {
        let tasks: Vec<Task> = (0..2_000).map(|number| task(3, number)).collect();
        let ids: HashSet<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids.len(), tasks.len());
        let prompts: HashSet<&str> = tasks.iter().map(|task| task.prompt.as_str()).collect();
        assert!(prompts.len() > 600, "{} different prompts", prompts.len());
    }

    #[test]
    fn every_request_is_understood_as_what_it_was_made_of() {
        for number in 0..500 {
            let task = task(1, number);
            assert!(!task.prompt.contains('{'), "{task:?}");
            let understood = understood(&task.prompt);
            assert_eq!(understood.product, task.product, "{}", task.prompt);
            assert!(!understood.english.starts_with("Edit the picture"), "{}", task.prompt);
            assert_eq!(kind_of(&understood.english), task.kind, "{}", understood.english);
            if let Some(words) = understood.words {
                assert!(WORDS.contains(&words.as_str()), "{words}");
            }
        }
    }

    #[test]
    fn a_request_in_unknown_words_is_taken_as_it_stands() {
        let understood = understood("ᾠδή: γράψε «ᾧ τέκνον» 🌅");
        assert_eq!(understood.words.as_deref(), Some("ᾧ τέκνον"));
        assert_eq!(understood.english, "Edit the picture: ᾠδή: γράψε «ᾧ τέκνον» 🌅");
    }
}
