//! The first steps of a run: the task as it stands, its status, its picture.

use super::clickup::{Attachment, CustomField, Task};
use super::journal::{Halt, Wait};
use super::pictures::{self, Picture};
use super::record::{Original, ReadTask};
use super::run::Run;
use super::service::ServiceError;
use crate::task_log::{ID_CHARS_MAX, PROMPT_BYTES_MAX};

/// What a task without a picture waits for, so that a delivery about it wakes it.
pub(crate) const NO_PICTURE: &str = "no_picture";
/// How the titles begin under which pictures are given back.
const OWN_TITLE: &str = "edited-";
/// How often a task without a picture is looked at.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Reads the task, if it is to be worked on.
pub(super) async fn task(run: &Run<'_>) -> Result<ReadTask, Halt> {
    let keys = &run.pipeline.definition.keys;
    let found = run.pipeline.services.clickup.task(&run.job.task_id).await;
    let Some(task) = found.map_err(|error| Halt::of_run(&error))? else {
        return Err(Halt::NotWanted("ClickUp has no such task any more".to_owned()));
    };
    if !keys.has_list(&task.list_id) {
        let words =
            format!("it is in list {}, which orchestrator.toml does not name", task.list_id);
        return Err(Halt::NotWanted(words));
    }
    if !keys.is_ready(&task.status) {
        let words = format!("its status is {:?}, not {:?}", task.status, keys.clickup.ready_status);
        return Err(Halt::NotWanted(words));
    }
    let Some(picture) = picture_of(&task) else { return Err(no_picture(run)) };
    let text = if task.text.trim().is_empty() { &task.name } else { &task.text };
    if text.trim().is_empty() {
        return Err(Halt::fail("no_request", "the task has neither a description nor a title"));
    }
    if text.len() > PROMPT_BYTES_MAX {
        let words =
            format!("the description has {} bytes; the most is {PROMPT_BYTES_MAX}", text.len());
        return Err(Halt::fail("request_too_long", words));
    }
    Ok(ReadTask {
        text: text.clone(),
        attachment: picture.id.clone(),
        task_type: field(&task.custom_fields, &keys.clickup.type_field),
        category: field(&task.custom_fields, &keys.clickup.category_field),
        name: task.name,
    })
}

/// The picture may be attached a moment after the task was made.
fn no_picture(run: &Run<'_>) -> Halt {
    let minutes = run.pipeline.definition.keys.waiting.picture_minutes;
    let patience = chrono::Duration::minutes(minutes.into());
    let waited = run.job.waiting_since.map(|since| run.journal.now() - since);
    if minutes == 0 || waited.is_some_and(|waited| waited >= patience) {
        return Halt::fail(NO_PICTURE, "the task has no picture (PNG, JPEG or WebP) attached");
    }
    Halt::Wait(Wait {
        code: NO_PICTURE.to_owned(),
        words: "the task has no picture attached yet".to_owned(),
        after: Some(LOOK_AGAIN),
        for_operator: false,
    })
}

/// The picture that was attached first; what earlier runs gave back is passed over.
fn picture_of(task: &Task) -> Option<&Attachment> {
    let pictures = task
        .attachments
        .iter()
        .filter(|attachment| is_picture(attachment) && !attachment.title.starts_with(OWN_TITLE));
    // Those without a time come last, in ClickUp's order.
    pictures.min_by_key(|attachment| (attachment.created_at.is_none(), attachment.created_at))
}

fn is_picture(attachment: &Attachment) -> bool {
    match &attachment.media_type {
        Some(media_type) if media_type.starts_with("image/") => {
            matches!(media_type.as_str(), "image/png" | "image/jpeg" | "image/jpg" | "image/webp")
        }
        _ => {
            let title = attachment.title.to_lowercase();
            [".png", ".jpg", ".jpeg", ".webp"].iter().any(|ending| title.ends_with(ending))
        }
    }
}

fn field(fields: &[CustomField], name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let value = fields.iter().find(|field| field.name == name)?.value.as_ref()?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text: String = text.trim().chars().take(ID_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

/// Puts the task into the working status, before any money is spent: where that cannot be done, the task would look
/// ready after its run and be worked on again.
pub(super) async fn put_to_work(run: &Run<'_>) -> Result<(), Halt> {
    let status = &run.pipeline.definition.keys.clickup.working_status;
    let set = run.pipeline.services.clickup.set_status(&run.job.task_id, status).await;
    set.map_err(|error| status_refused(&error))
}

/// A status that the list does not have is mended by a person, in the list or in the definition.
pub(super) fn status_refused(error: &ServiceError) -> Halt {
    if error.code == "clickup_status_refused" {
        return Halt::Wait(Wait::of(error, None, true));
    }
    Halt::of_run(error)
}

/// Fetches the original, whose address is asked for anew.
pub(super) async fn fetch_original(run: &Run<'_>) -> Result<Picture, Halt> {
    let services = &run.pipeline.services;
    let read = run.journal.ended::<ReadTask>("task")?;
    let wanted = read.map(|read| read.value.attachment).unwrap_or_default();
    let found = services.clickup.task(&run.job.task_id).await;
    let Some(task) = found.map_err(|error| Halt::of_run(&error))? else {
        return Err(deleted());
    };
    let Some(attachment) = task.attachments.iter().find(|attachment| attachment.id == wanted)
    else {
        return Err(Halt::fail("picture_gone", "the picture was taken off the task"));
    };
    let bytes_max = run.pipeline.definition.keys.picture_bytes_max();
    let fetched = pictures::fetch(&services.clickup_pictures, &attachment.url, bytes_max).await;
    fetched.map_err(|error| Halt::of_run(&error))
}

/// That the task went away in the middle of its run.
pub(super) fn deleted() -> Halt {
    Halt::fail("task_deleted", "the task was deleted in ClickUp while it was worked on")
}

/// Takes the original over to WaveSpeed.
pub(super) async fn picture(run: &Run<'_>) -> Result<Original, Halt> {
    let original = run.original().await?;
    let file_name = format!("original.{}", ending(&original.media_type));
    let uploaded = run
        .pipeline
        .services
        .wavespeed
        .upload_media(&file_name, &original.media_type, original.bytes.clone())
        .await;
    Ok(Original {
        media_type: original.media_type.clone(),
        width: original.width,
        height: original.height,
        size_bytes: u64::try_from(original.bytes.len()).unwrap_or(u64::MAX),
        media_url: uploaded.map_err(|error| Halt::of_run(&error))?,
    })
}

/// The ending of a file's name for a type of picture.
pub(super) fn ending(media_type: &str) -> &'static str {
    match media_type {
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        _ => "png",
    }
}

/// The title under which a winner's picture is given back: the same for every redo of the run, and for no other run.
pub(super) fn own_title(task_id: &str, run: i32, model: &str, iteration: i32) -> String {
    format!("{OWN_TITLE}{task_id}-{run}-{model}-{iteration}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(id: &str, title: &str, media_type: Option<&str>) -> Attachment {
        Attachment {
            id: id.to_owned(),
            title: title.to_owned(),
            media_type: media_type.map(str::to_owned),
            size_bytes: None,
            url: String::new(),
            created_at: None,
        }
    }

    fn picked(attachments: Vec<Attachment>) -> Option<String> {
        let task = Task {
            id: "t".to_owned(),
            name: String::new(),
            text: String::new(),
            status: String::new(),
            list_id: String::new(),
            attachments,
            custom_fields: vec![],
        };
        picture_of(&task).map(|attachment| attachment.id.clone())
    }

    #[test]
    fn the_first_picture_is_edited_and_never_one_of_our_own() {
        let attachments = vec![
            attachment("pdf", "brief.pdf", Some("application/pdf")),
            attachment("own", &own_title("t", 1, "m", 1), Some("image/png")),
            attachment("late", "b.webp", None),
            attachment("gif", "c.gif", Some("image/gif")),
        ];
        assert_eq!(picked(attachments.clone()).as_deref(), Some("late"));
        let mut first = attachment("first", "ΦΩΤΟ.JPG", None);
        first.created_at = "2026-01-01T00:00:00Z".parse().ok();
        let attachments = [attachments, vec![first]].concat();
        assert_eq!(picked(attachments).as_deref(), Some("first"));
        assert_eq!(picked(vec![attachment("pdf", "brief.pdf", None)]), None);
    }
}
