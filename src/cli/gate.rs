//! `mathesis gate …`: how far the adoption gate can be trusted.

mod noise;
mod plot;
mod power;
mod replay;
mod rules;
mod scores;
mod watch;

use clap::Subcommand;

use super::failure::Failure;
use crate::settings::Settings;

/// See how far the adoption gate can be trusted.
#[derive(Debug, Clone, Subcommand)]
pub enum GateCommand {
    Power(Box<power::Power>),
    Replay(replay::Replay),
    NoiseFloor(noise::ShowNoise),
    Watch(watch::ShowWatch),
}

/// Runs the command.
pub async fn run(command: GateCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        GateCommand::Power(command) => power::run(*command, settings).await,
        GateCommand::Replay(command) => replay::run(command, settings).await,
        GateCommand::NoiseFloor(command) => noise::run(command, settings).await,
        GateCommand::Watch(command) => watch::run(command, settings).await,
    }
}
