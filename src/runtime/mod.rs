//! Everything that moves: the engine that advances cycles, and the chores beside it.
//!
//! [`advance`] is the only thing that changes a cycle. Workers perform effects and hand their results
//! to it; the watcher, the scheduler and operators submit events to it. Each chore is one noun in one
//! file: watcher, standing watch (`harm`), scheduler, rescuer, pruner, refresher,
//! reconciler, abandoned `batches`.

mod acts;
mod advance;
mod assigner;
mod batches;
mod bell;
pub mod blame;
mod claims;
mod conflict_shown;
mod conflicts;
mod engine;
mod follower;
mod forgetting;
mod harm;
mod operations;
mod overall;
mod project;
mod pruner;
mod reconciler;
mod refresher;
mod registry;
mod rehearsal;
mod rescuer;
mod scheduler;
mod serve;
mod status;
mod watched;
mod watcher;
mod worker;

pub(crate) use advance::look_of;
pub use advance::{
    AdvanceError, Advanced, Candidate, FileChange, Moved, Submission, What, advance, replay,
};
pub use assigner::{AssignError, Assignment, ModelStanding, VersionAssigner};
pub use batches::settle_abandoned_batches;
pub use bell::{Bell, News};
pub use claims::{Claimed, Claims, KnownClaim};
pub use conflict_shown::{ConflictShown, DocumentShown, conflict_shown};
pub use engine::{DrawSeed, Engine, EngineSettings};
pub use forgetting::{ForgetError, ForgottenTask, forget_task};
pub use harm::check as check_harm;
pub use operations::{Operation, OperationError, Operator, Performed};
pub use overall::{AllOf, SwitchedAll, on_every_cycle, switch_automation};
pub use pruner::{Pruned, prune};
pub use reconciler::reconcile;
pub(crate) use registry::definition_of_cycle;
pub use registry::{Registry, RegistryError, Workflow, rules_of};
pub use rehearsal::{Rehearsal, RehearsalError, Rehearsed, RehearsedModel};
pub use rescuer::Rescuer;
pub use scheduler::{lift_budget_holds, run_due_schedules};
pub use serve::Runtime;
pub use status::{CycleStatus, HoldStatus, ModelStatus, cycle_status};
pub use watcher::check_workflow;
pub use worker::{Worked, Worker};
