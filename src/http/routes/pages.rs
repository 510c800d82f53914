//! The dashboard's routes, and the way in.

use super::{Route, dashboard, get, login, operation_in_words, post, post_by};
use crate::dashboard::data::{
    ChangesData, ConflictData, ConflictsData, CycleData, InsightsData, ModelData, OverviewData,
    ReportData, TaskData, TasksData, VerdictsData, VersionData,
};
use crate::dashboard::table::TableData;
use crate::dashboard::{SCRIPT_PATH, STYLESHEET_PATH};
use crate::http::blame::Picture;
use crate::http::dashboard::{FormSent, Range, WayWanted, asked};
use crate::http::describe::{leads, page, text};
use crate::http::operations::CYCLE_OPERATIONS;
use crate::runtime::blame::Why;

/// What people look at.
pub fn reading() -> Vec<Route> {
    vec![
        get(
            "/analytics",
            "page_of_all",
            "Every workflow",
            page::<OverviewData<'_>>("The page"),
            dashboard::analytics,
        )
        .asks::<Range>()
        .refuses(&[404, 422]),
        get(
            "/analytics/{workflow}",
            "page_of_workflow",
            "One workflow",
            page::<OverviewData<'_>>("The page"),
            dashboard::overview,
        )
        .asks::<Range>(),
        get(
            "/analytics/{workflow}/cycles",
            "page_of_cycles",
            "Every cycle",
            page::<TableData<'_>>("The page"),
            dashboard::cycles,
        )
        .asks::<asked::Files>(),
        get(
            "/analytics/{workflow}/cycles/{number}",
            "page_of_cycle",
            "One cycle with its history",
            page::<CycleData<'_>>("The page"),
            dashboard::cycle,
        )
        .asks::<asked::Files>(),
        get(
            "/analytics/{workflow}/cycles/{number}/report",
            "page_of_report",
            "A cycle in plain words",
            page::<ReportData<'_>>("The page"),
            dashboard::report,
        )
        .asks::<asked::InLanguage>(),
        get(
            "/analytics/{workflow}/verdicts",
            "page_of_verdicts",
            "Every verdict",
            page::<VerdictsData<'_>>("The page"),
            dashboard::verdicts,
        )
        .asks::<asked::Files>(),
        get(
            "/analytics/{workflow}/insights",
            "page_of_insights",
            "Every insight",
            page::<InsightsData<'_>>("The page"),
            dashboard::insights,
        )
        .asks::<asked::Files>(),
        get(
            "/analytics/{workflow}/changes",
            "page_of_changes",
            "Every change of the files",
            page::<ChangesData<'_>>("The page"),
            dashboard::changes,
        )
        .asks::<asked::Files>(),
        get(
            "/analytics/{workflow}/conflicts",
            "page_of_conflicts",
            "Every hand-edited file",
            page::<ConflictsData<'_>>("The page"),
            dashboard::conflicts,
        )
        .asks::<asked::Files>(),
        get(
            "/analytics/{workflow}/conflicts/{number}",
            "page_of_conflict",
            "A hand-edited file and the ways out",
            page::<ConflictData<'_>>("The page"),
            dashboard::conflict,
        )
        .asks::<WayWanted>(),
        get(
            "/analytics/{workflow}/tasks",
            "page_of_tasks",
            "The tasks, latest first",
            page::<TasksData<'_>>("The page"),
            dashboard::tasks,
        )
        .asks::<asked::Wanted>(),
        get(
            "/analytics/{workflow}/tasks/{task}",
            "page_of_task",
            "One run of a task",
            page::<TaskData<'_>>("The page"),
            dashboard::task,
        )
        .asks::<asked::Run>(),
        get(
            "/analytics/{workflow}/tasks/{task}/why",
            "page_of_prompt",
            "How the prompt behind a picture came to be",
            page::<Why>("The page"),
            dashboard::why,
        )
        .asks::<Picture>()
        .refuses(&[409]),
        get(
            "/analytics/{workflow}/models/{model}",
            "page_of_model",
            "One model with its versions",
            page::<ModelData<'_>>("The page"),
            dashboard::model,
        )
        .asks::<asked::Compare>(),
        get(
            "/analytics/{workflow}/models/{model}/versions/{version}",
            "page_of_version",
            "One version with its texts",
            page::<VersionData<'_>>("The page"),
            dashboard::version,
        )
        .asks::<asked::Files>(),
    ]
}

/// The buttons of the pages.
pub fn acting() -> Vec<Route> {
    let mut routes = vec![
        post(
            "/analytics/{workflow}/automation",
            "button_automation",
            "Switches a workflow's learning on or off",
            leads("To the page that shows what came of it"),
            dashboard::automation,
        ),
        post(
            "/analytics/{workflow}/models/{model}/rollback",
            "button_rollback",
            "Puts a version back, files included",
            leads("To the page that shows what came of it"),
            dashboard::rollback,
        ),
        post(
            "/analytics/{workflow}/conflicts/{number}/settle",
            "button_settle",
            "Decides what becomes of a hand-edited file",
            leads("To the page that shows what came of it"),
            dashboard::settle,
        ),
    ];
    for (name, operation) in CYCLE_OPERATIONS {
        routes.push(post_by(
            &format!("/analytics/{{workflow}}/cycles/{{number}}/{name}"),
            &format!("button_{name}"),
            operation_in_words(name),
            leads("To the page that shows what came of it"),
            dashboard::on_cycle(operation),
        ));
    }
    routes.into_iter().map(|route| route.takes_form::<FormSent>().refuses(&[409])).collect()
}

/// The way in, and what every page loads.
pub fn open() -> Vec<Route> {
    let sheet = || text("text/css", "The stylesheet");
    vec![
        get("/", "front", "To the dashboard", leads("To the dashboard"), dashboard::front),
        get(
            "/login",
            "sign_in_form",
            "The form in which a browser trades a key for a session",
            text("text/html", "The form, or who is signed in")
                .or_leads("To the dashboard, where no key is needed"),
            login::form,
        ),
        post(
            "/login",
            "sign_in",
            "Trades a key for a session",
            leads("To the dashboard, signed in"),
            login::sign_in,
        )
        .takes_form::<login::SignIn>()
        .refuses(&[400, 401, 403, 429]),
        post("/logout", "sign_out", "Ends a session", leads("To the way in"), login::sign_out)
            .takes_form::<login::SignOut>()
            .refuses(&[403]),
        get(STYLESHEET_PATH, "stylesheet", "The pages' stylesheet", sheet(), dashboard::stylesheet),
        get(
            SCRIPT_PATH,
            "script",
            "The pages' script",
            text("text/javascript", "The script"),
            dashboard::script,
        ),
        get(
            "/assets/style.css",
            "stylesheet_of_old",
            "The stylesheet under its former address",
            sheet(),
            dashboard::stylesheet,
        ),
    ]
}
