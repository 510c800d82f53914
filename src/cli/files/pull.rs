//! `mathesis files pull`: a config folder on another machine, kept the image of a service's versions.
//!
//! It follows the rules of the reconciler, with the same marker and the same backups, so that either
//! can go on in a folder of the other's, and so can the Python package.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::service::{Service, ServiceFailure};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::clock::{Clock, SystemClock};
use crate::research::{
    self, Change, Expected, FileHashes, FilesError, FolderState, Standing, Texts,
};
use crate::settings::{Secret, Settings};
use crate::store::changes::backup_name;

/// The folder that today's pipelines read.
const FOLDER: &str = "config/deep_research";

/// Where the versions come from and where they go.
#[derive(Debug, Clone, Args)]
pub struct Pull {
    /// The workflow [env: MATHESIS_WORKFLOW] [default: image-editing]
    #[arg(long, short = 'w', value_name = "NAME")]
    workflow: Option<String>,
    /// The service [env: MATHESIS_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The environment variable that holds the key; any role will do
    #[arg(long, value_name = "VARIABLE", default_value = "MATHESIS_KEY")]
    key_env: String,
    /// The config folder, with one folder a model
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    folder: PathBuf,
    /// Go on, and look again every few seconds
    #[arg(long)]
    watch: bool,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval_seconds: u64,
}

/// Why a model's files were not brought in step.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Service(#[from] ServiceFailure),
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Runs the command.
pub async fn run(pull: Pull, settings: &Settings) -> Result<(), Failure> {
    let key = match pull.key_env.as_str() {
        "MATHESIS_KEY" => settings.key.clone(),
        name => std::env::var(name).ok().filter(|key| !key.is_empty()).map(Secret::new),
    };
    let url = pull.url.as_deref().unwrap_or(&settings.url);
    let workflow = pull.workflow.as_deref().unwrap_or(&settings.workflow);
    let service = Service::new(url, workflow, key).map_err(Failure::usage)?;
    let mut puller = Puller { service, folder: pull.folder, texts: HashMap::new() };
    if !pull.watch {
        let said = puller.round().await.map_err(Failure::failed)?;
        for (model, outcome) in &said {
            tell(model, outcome)?;
        }
        return if said.values().any(Result::is_err) { Err(Failure::told()) } else { Ok(()) };
    }
    let mut told = Told::default();
    loop {
        match puller.round().await {
            Ok(said) => told.tell_news(said)?,
            Err(failure) => told.tell_failure(failure.to_string()),
        }
        SystemClock.sleep(Duration::from_secs(pull.interval_seconds)).await;
    }
}

type Said = BTreeMap<String, Result<String, String>>;

fn tell(model: &str, outcome: &Result<String, String>) -> Result<(), Failure> {
    match outcome {
        Ok(words) => output::say(&format!("{model}: {words}")),
        Err(words) => {
            eprintln!("mathesis: {model}: {words}");
            Ok(())
        }
    }
}

/// What has been said, so that a watch says each thing once.
#[derive(Default)]
struct Told {
    models: Said,
    failure: Option<String>,
}

impl Told {
    fn tell_news(&mut self, said: Said) -> Result<(), Failure> {
        if self.failure.take().is_some() {
            eprintln!("mathesis: the service answers again");
        }
        for (model, outcome) in &said {
            if self.models.get(model) != Some(outcome) {
                tell(model, outcome)?;
            }
        }
        self.models = said;
        Ok(())
    }

    fn tell_failure(&mut self, failure: String) {
        if self.failure.as_ref() != Some(&failure) {
            eprintln!("mathesis: {failure}; trying again");
            self.failure = Some(failure);
        }
    }
}

struct Puller {
    service: Service,
    folder: PathBuf,
    /// Versions never change, so each is asked for once.
    texts: HashMap<(String, i32), Texts>,
}

impl Puller {
    /// Looks at every model once. One that cannot be brought in step keeps no other from it.
    async fn round(&mut self) -> Result<Said, ServiceFailure> {
        let mut said = Said::new();
        for head in self.service.models().await? {
            let Some(version) = head.active_version else { continue };
            let outcome = self.model(&head.model, version).await.map_err(|error| error.to_string());
            said.insert(head.model, outcome);
        }
        Ok(said)
    }

    async fn model(&mut self, model: &str, version: i32) -> Result<String, PullError> {
        let texts = self.texts_of(model, version).await?;
        let hashes = research::hashes_of(&texts);
        let expected = Expected {
            version,
            activation_hash: hashes.activation.unwrap_or_default(),
            research_hash: hashes.research.unwrap_or_default(),
        };
        let state = self.on_disk(model, research::read_model).await?;
        let in_step = format!("version {version}, in step");
        match research::standing(&state, &expected, false) {
            Standing::InStep => Ok(in_step),
            Standing::Unmarked => {
                self.mark(model, version, state.hashes()).await?;
                Ok(in_step)
            }
            Standing::HandEdited(files) => {
                // A fresh container may ship the files of an older version: known texts are no edit.
                if let Some(known) = self.known_version(model, &state).await? {
                    self.mark(model, known, state.hashes()).await?;
                    return self.write(model, version, texts).await;
                }
                let file = files.first().copied().unwrap_or(research::ConfigFile::Activation);
                let path = self.folder.join(model).join(file.file_name());
                Err(FilesError::hand_edited(path, file).into())
            }
            Standing::Missing(_) | Standing::Stale | Standing::HalfWritten { .. } => {
                // What was read a moment ago may be older than what the folder has been given since.
                if self.service.active(model).await? != version {
                    return Ok(
                        "another version has just become active; the next look takes it".to_owned()
                    );
                }
                self.write(model, version, texts).await
            }
        }
    }

    async fn texts_of(&mut self, model: &str, version: i32) -> Result<Texts, ServiceFailure> {
        let key = (model.to_owned(), version);
        if let Some(texts) = self.texts.get(&key) {
            return Ok(texts.clone());
        }
        let texts = self.service.texts(model, version).await?;
        self.texts.insert(key, texts.clone());
        Ok(texts)
    }

    /// The version whose texts lie in a folder that nobody has marked yet.
    async fn known_version(
        &mut self,
        model: &str,
        state: &FolderState,
    ) -> Result<Option<i32>, ServiceFailure> {
        if state.marker.is_some() {
            return Ok(None);
        }
        let present = state.hashes();
        for version in self.service.versions(model).await? {
            let known = research::hashes_of(&self.texts_of(model, version).await?);
            let same = |file: &Option<String>, of: &Option<String>| file.is_none() || file == of;
            if same(&present.activation, &known.activation)
                && same(&present.research, &known.research)
            {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    async fn mark(&self, model: &str, version: i32, files: FileHashes) -> Result<(), FilesError> {
        let at = SystemClock.now();
        self.on_disk(model, move |folder, model| {
            research::adopt(folder, model, version, &files, &format!("adopt-{version}"), at)
        })
        .await
    }

    async fn write(&self, model: &str, version: i32, texts: Texts) -> Result<String, PullError> {
        let now = SystemClock.now();
        let change = Change {
            change_id: format!("pull-{version}-{}", now.timestamp_millis()),
            backup_name: backup_name(now),
            version,
            texts,
            expected_before: FileHashes::default(),
            at: now,
        };
        let written = self
            .on_disk(model, move |folder, model| research::write_missing(folder, model, &change))
            .await?;
        Ok(match written.backup_path {
            Some(backup) => format!("version {version} written; before it: {}", backup.display()),
            None => format!("version {version} written"),
        })
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        model: &str,
        work: impl FnOnce(&Path, &str) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let (folder, model) = (self.folder.clone(), model.to_owned());
        match tokio::task::spawn_blocking(move || work(&folder, &model)).await {
            Ok(done) => done,
            Err(panic) => Err(FilesError::interrupted(panic)),
        }
    }
}
