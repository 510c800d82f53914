//! What the analyst knows about pictures: how a complaint is worded, and what one would advise against it.
//!
//! All of it is plausible. Which of it helps is decided elsewhere (`truth`), and not told here.

/// Where in a document an advice belongs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the section whose heading has this word, in lower case.
    Inside(&'static str),
    /// As a section of its own behind that one.
    After(&'static str),
    /// As the last section.
    AtTheEnd,
}

/// One kind of complaint, and what is advised against it.
#[derive(Debug)]
pub(super) struct Topic {
    /// A complaint with one of these, in lower case, is of this kind.
    pub(super) complaint: &'static [&'static str],
    /// What an insight says.
    pub(super) finding: &'static str,
    /// What the documents should say: one line.
    pub(super) advice: &'static str,
    /// Where it belongs.
    pub(super) place: Place,
    /// The heading of a section of its own.
    pub(super) heading: &'static str,
    /// A line with this word in it, in lower case, says the opposite and goes.
    pub(super) opposite: Option<&'static str>,
    /// What the edit does, for a person.
    pub(super) summary: &'static str,
}

impl Topic {
    pub(super) fn shows_in(&self, issues: &[String]) -> bool {
        issues.iter().any(|issue| {
            let issue = issue.to_lowercase();
            self.complaint.iter().any(|words| issue.contains(words))
        })
    }

    pub(super) fn contradicts(&self, line: &str) -> bool {
        self.opposite.is_some_and(|word| line.to_lowercase().contains(word))
    }
}

pub(super) const TOPICS: [Topic; 5] = [
    Topic {
        complaint: &["redrawn"],
        finding: "Parts of the product that nobody named come out changed, the logo first of all.",
        advice: "End every prompt with one sentence that names what must stay unchanged: the logo, the product's shape, faces, and all text that the request does not mention.",
        place: Place::After("how to word"),
        heading: "What must stay as it is",
        opposite: None,
        summary: "Adds a section: each prompt names what must stay unchanged.",
    },
    Topic {
        complaint: &["lighting looks flat"],
        finding: "The light of failed pictures is called flat.",
        advice: "Describe the light in cinematic words: golden hour, soft volumetric rays, a gentle rim light.",
        place: Place::After("backgrounds"),
        heading: "Light",
        opposite: None,
        summary: "Adds a section: the light is described in cinematic words.",
    },
    Topic {
        complaint: &["greek wording"],
        finding: "Greek words that should stand in the picture come out wrong: in English, or without accents.",
        advice: "Put Greek words into the prompt in quotes, letter by letter and with every accent: for «Καλό Καλοκαίρι» write the text \"Καλό Καλοκαίρι\".",
        place: Place::Inside("text"),
        heading: "Greek text",
        opposite: Some("translate"),
        summary: "Greek words go into the prompt as they stand, in quotes.",
    },
    Topic {
        complaint: &["materials look plain"],
        finding: "The materials of failed pictures are called plain.",
        advice: "Describe the texture of every surface in rich words: brushed metal, dewy glass, raw linen.",
        place: Place::AtTheEnd,
        heading: "Materials",
        opposite: None,
        summary: "Adds a section: surfaces are described in rich words.",
    },
    Topic {
        complaint: &["more was edited"],
        finding: "More is edited than was asked for when a prompt adds wishes of its own.",
        advice: "Ask for one change in each sentence, and for nothing that the request does not ask for.",
        place: Place::Inside("how to word"),
        heading: "How much to ask for",
        opposite: None,
        summary: "Adds a rule: one change in each sentence, and nothing beyond the request.",
    },
];
