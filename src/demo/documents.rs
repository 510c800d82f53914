//! The documents that the demo starts with: the shipped workflow's, with a pipeline at the pace of stand-ins and poorer
//! texts of its own, so that there is something to learn.

use std::fs;
use std::io;
use std::path::Path;

use crate::stand_in::world::Model;

/// The workflow's name.
pub(crate) const WORKFLOW: &str = "image-editing";
/// Where the workflow keeps its models' folders, relative to the home.
pub(crate) const CONFIG_FOLDER: &str = "config/deep_research";

const WORKFLOW_FILES: [(&str, &str); 13] = [
    ("workflow.toml", include_str!("../../workflows/image-editing/workflow.toml")),
    (
        "prompts/analysis.system.md",
        include_str!("../../workflows/image-editing/prompts/analysis.system.md"),
    ),
    (
        "prompts/analysis.user.md",
        include_str!("../../workflows/image-editing/prompts/analysis.user.md"),
    ),
    (
        "prompts/generation.system.md",
        include_str!("../../workflows/image-editing/prompts/generation.system.md"),
    ),
    (
        "prompts/generation.user.md",
        include_str!("../../workflows/image-editing/prompts/generation.user.md"),
    ),
    ("orchestrator.toml", include_str!("orchestrator.toml")),
    (
        "prompts/enhancement.user.md",
        include_str!("../../workflows/image-editing/prompts/enhancement.user.md"),
    ),
    (
        "prompts/validation.system.md",
        include_str!("../../workflows/image-editing/prompts/validation.system.md"),
    ),
    (
        "prompts/validation.user.md",
        include_str!("../../workflows/image-editing/prompts/validation.user.md"),
    ),
    (
        "prompts/comment.winner.md",
        include_str!("../../workflows/image-editing/prompts/comment.winner.md"),
    ),
    (
        "prompts/comment.no_winner.md",
        include_str!("../../workflows/image-editing/prompts/comment.no_winner.md"),
    ),
    (
        "prompts/comment.failed.md",
        include_str!("../../workflows/image-editing/prompts/comment.failed.md"),
    ),
    (
        "prompts/enhancement.md",
        include_str!("../../workflows/image-editing/prompts/enhancement.md"),
    ),
];

/// Writes the workflow and the models' documents into a home.
///
/// # Errors
/// Those of writing files.
pub(crate) fn write(home: &Path) -> io::Result<()> {
    let workflow = home.join("workflows").join(WORKFLOW);
    fs::create_dir_all(workflow.join("prompts"))?;
    for (name, text) in WORKFLOW_FILES {
        fs::write(workflow.join(name), text)?;
    }
    for model in Model::ALL {
        let folder = home.join(CONFIG_FOLDER).join(model.name());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("activation.txt"), activation(model))?;
        fs::write(folder.join("research.md"), research(model))?;
    }
    Ok(())
}

/// `activation.txt` of a model.
pub(crate) const fn activation(model: Model) -> &'static str {
    match model {
        Model::Wan => WAN_ACTIVATION,
        Model::Nano => NANO_ACTIVATION,
    }
}

/// `research.md` of a model.
pub(crate) const fn research(model: Model) -> &'static str {
    match model {
        Model::Wan => WAN_RESEARCH,
        Model::Nano => NANO_RESEARCH,
    }
}

const WAN_ACTIVATION: &str = "\
You write prompts for wan-2.5-edit, a model that edits pictures.

You get a request, mostly in Greek, and the picture that it is about. You answer with one English prompt and nothing else.
Work in this order: read the request, look at the picture, say what is to be done.
";

const WAN_RESEARCH: &str = "\
# wan-2.5-edit

What we know so far. Little of it has been tested.

## How to word an edit

- Begin with a verb: add, replace, remove, change.
- Say where in the picture: top left, bottom right, behind the product.
- Two to four sentences are enough.

## Text in the picture

- Say which typeface and which colour the text should have.
- Short texts come out better than long ones.

## Backgrounds

- Name the place, the time of day and the weather.
- Say how the product stands in it: on a table, on sand, in a hand.

## What fails

- Vague wishes such as \"make it nicer\".
";

const NANO_ACTIVATION: &str = "\
You write prompts for nano-banana, a model that edits pictures by instruction.

You get a request, mostly in Greek, and the picture that it is about. You answer with one English prompt and nothing else.
Write as you would speak to a retoucher: whole sentences, no lists of keywords.
";

const NANO_RESEARCH: &str = "\
# nano-banana

What we know so far. Little of it has been tested.

## How to word an edit

- Speak in whole sentences.
- Refer to what is seen: the bottle on the left, the woman in the red coat.

## Greek text

- Translate Greek words into English before they go into the prompt; the model was trained on English.
- Say which typeface and which colour the text should have.

## Backgrounds

- Name the place, the time of day and the weather.

## What fails

- Vague wishes such as \"make it nicer\".
";
