//! `mathesis demo`: the whole product working for real, in about a minute, with nothing scripted about the result.

mod documents;
mod responder;
mod tasks;
mod world;
