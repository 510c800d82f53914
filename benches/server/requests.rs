//! The bytes of requests. Made from templates, so that sending one costs a copy.

use std::io::Write as _;

use super::process::KEY;

/// The models of the shipped workflow.
pub const MODELS: [&str; 2] = ["wan-2.5-edit", "nano-banana"];

/// Appends `PUT …/assignments/{model}` of a task.
pub fn assignment(workflow: &str, task: &str, model: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "PUT /v1/workflows/{workflow}/tasks/{task}/assignments/{model} HTTP/1.1\r\n\
         host: localhost\r\nauthorization: Bearer {KEY}\r\ncontent-length: 0\r\n\r\n"
    );
}

/// Appends `GET` of a page.
pub fn page(path: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\naccept: text/html\r\n\r\n"
    );
}

/// Events of 1 KB: enhancements, four to a task, so that tasks and attempts are as in a pipeline.
#[derive(Debug)]
pub struct Events {
    prefix: String,
    texts: String,
}

/// One event's place in its task.
#[derive(Debug, Clone)]
pub struct Place {
    pub task: String,
    pub model: &'static str,
    pub iteration: u64,
}

/// A sentence as customers write them.
const ORIGINAL: &str = "Άλλαξε το φόντο σε λευκό, κράτα το λογότυπο";
/// Bytes of one event as JSON.
const EVENT_BYTES: usize = 1_024;

impl Events {
    /// Events of tasks that begin with a prefix.
    pub fn new(prefix: impl Into<String>) -> Self {
        let mut events = Self { prefix: prefix.into(), texts: String::new() };
        let mut bytes = Vec::new();
        events.append(0, &mut bytes);
        let room = EVENT_BYTES.saturating_sub(bytes.len() + enhanced(String::new()).len());
        let sentence = "Replace only the background with pure white; keep the logo as it is. ";
        events.texts = enhanced(sentence.chars().cycle().take(room).collect());
        events
    }

    /// Where the n-th event belongs.
    pub fn place(&self, number: u64) -> Place {
        let (task, within) = (number / 4, number % 4);
        let model = if within.is_multiple_of(2) { MODELS[0] } else { MODELS[1] };
        Place { task: format!("{}-{task:09}", self.prefix), model, iteration: within / 2 + 1 }
    }

    /// The prompts, as the floor stores them.
    pub fn prompts(&self) -> (String, String) {
        let enhanced = self.texts.split('"').nth(7).unwrap_or_default();
        (ORIGINAL.to_owned(), enhanced.to_owned())
    }

    fn append(&self, number: u64, out: &mut Vec<u8>) {
        let Place { task, model, iteration } = self.place(number);
        let _ = write!(
            out,
            r#"{{"type":"enhancement","task_id":"{task}","model":"{model}","iteration":{iteration},"version":1{}}}"#,
            self.texts
        );
    }

    /// Appends a request with a batch: the n-th batch of that many.
    pub fn request(&self, number: u64, batch: u64, body: &mut Vec<u8>, out: &mut Vec<u8>) {
        body.clear();
        for within in 0..batch {
            let event = number * batch + within;
            if batch > 1 {
                body.extend_from_slice(if within == 0 { b"[" } else { b"," });
            }
            self.append(event, body);
        }
        if batch > 1 {
            body.push(b']');
        }
        let _ = write!(
            out,
            "POST /v1/workflows/image-editing/events HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        out.extend_from_slice(body);
    }
}

fn enhanced(text: String) -> String {
    format!(r#","original_prompt":"{ORIGINAL}","enhanced_prompt":"{text}","latency_ms":2300"#)
}
