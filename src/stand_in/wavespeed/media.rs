//! Files that callers uploaded and pictures that were drawn.

use std::collections::HashMap;

use axum::body::Bytes;

/// The largest file that may be uploaded, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 200 * 1024 * 1024;

/// A file that was announced, and its bytes once they came.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) media_type: String,
    pub(super) size_bytes: u64,
    pub(super) bytes: Option<Bytes>,
}

/// Files by their address, without the server's part.
#[derive(Debug, Default)]
pub(super) struct Media {
    files: HashMap<String, File>,
    announced: u64,
}

impl Media {
    /// Announces a file; its path.
    pub(super) fn announce(&mut self, name: &str, media_type: &str, size_bytes: u64) -> String {
        self.announced = self.announced.saturating_add(1);
        // The name becomes part of an address, so only what needs no escape stays of it.
        let plain = |sign: char| sign.is_ascii_alphanumeric() || "._-".contains(sign);
        let name: String = name.chars().filter(|sign| plain(*sign)).collect();
        let path = format!("/media/{:06}/{name}", self.announced);
        let file = File { media_type: media_type.to_owned(), size_bytes, bytes: None };
        self.files.insert(path.clone(), file);
        path
    }

    /// The announced file of that path.
    pub(super) fn announced(&mut self, path: &str) -> Option<&mut File> {
        self.files.get_mut(path)
    }

    /// Puts a drawn picture there.
    pub(super) fn put(&mut self, path: &str, bytes: Bytes) {
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let media_type = "image/png".to_owned();
        self.files.insert(path.to_owned(), File { media_type, size_bytes, bytes: Some(bytes) });
    }

    /// The bytes and the media type of a file that is there.
    pub(super) fn get(&self, path: &str) -> Option<(Bytes, String)> {
        let file = self.files.get(path)?;
        Some((file.bytes.clone()?, file.media_type.clone()))
    }
}
