//! The dashboard's pages and their buttons, as a browser without scripts sees them.

use axum::body::Body;
use axum::http::header;
use mathesis::store::figures;
use mathesis::store::keys::Role;
use serde_json::Value;

use super::browser::{form, look, signed_in};
use super::{Answer, Site, request};
use crate::support::stage::{NANO, testing_stage};
use crate::support::{Stage, TaskRun, candidates_win};

const HOME: &str = "/analytics/image-editing";
const HOSTILE: &str = "<script>document.title='taken'</script>";

async fn data(site: &Site, path: &str) -> Value {
    let request = request("GET", path).header(header::ACCEPT, "application/json");
    site.send(request.body(Body::empty()).unwrap()).await.ok()
}

async fn page(site: &Site, path: &str) -> Answer {
    let page = look(site, path, "").await;
    assert_eq!(page.status, 200, "{path}: {}", page.text);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    page
}

/// A site whose cycle 1 is testing, with its window of tasks.
async fn testing_site() -> Site {
    let stage = testing_stage().await;
    let zone = stage.workflow.definition.timezone;
    figures::refresh(stage.pool(), stage.id(), zone, stage.engine.now()).await.unwrap();
    Site::on(stage, true)
}

/// What a program gets that asks for a page.
async fn asked_by_a_program(site: &Site, path: &str) -> Answer {
    let request = request("GET", path).header(header::ACCEPT, "application/json");
    site.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_refused_page_is_a_page_for_browsers_and_a_problem_for_programs() {
    let site = Site::open().await;
    for (path, status, code, says) in [
        (format!("{HOME}/cycles/99"), 404, "unknown_cycle", "there is no cycle 99"),
        (format!("{HOME}/tasks?from=yesterday"), 400, "invalid_query", "is a day such as"),
        ("/analytics/nowhere".to_owned(), 404, "unknown_workflow", "image-editing"),
        (format!("{HOME}/nothing/at/all"), 404, "no_such_route", "there is nothing at"),
        (format!("{HOME}/models/{HOSTILE}"), 404, "no_such_route", "there is nothing at"),
    ] {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        let shown = look(&site, &path, "").await;
        assert_eq!(shown.status, status, "{path}");
        assert_eq!(shown.headers[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
        assert!(shown.headers.contains_key(header::CONTENT_SECURITY_POLICY), "{path}");
        assert!(shown.text.contains(says) && shown.text.contains("To the dashboard"), "{path}");
        assert!(!shown.text.contains("<script>document"), "{path}: {}", shown.text);
        let told = asked_by_a_program(&site, &path).await;
        assert_eq!(told.problem(), (status, code.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_says_who_is_signed_in() {
    let site = Site::closed().await;
    let key = site.key("reader", Role::Read).await;
    let session = signed_in(&site, &key).await;
    let shown = look(&site, &format!("{HOME}/cycles/99"), &session).await;
    assert_eq!(shown.status, 404);
    assert!(shown.text.contains("reader") && shown.text.contains("Sign out"), "{}", shown.text);
}

#[tokio::test]
async fn each_page_opens_and_has_its_data() {
    let site = testing_site().await;
    let task = data(&site, &format!("{HOME}/tasks")).await["tasks"][0]["task_id"].clone();
    let task = task.as_str().expect("a task");
    for (path, says) in [
        (HOME.to_owned(), "Testing: "),
        (format!("{HOME}/cycles"), "Every cycle"),
        (format!("{HOME}/cycles/1"), "numbered from 1 without a hole"),
        (format!("{HOME}/verdicts"), "Past verdicts"),
        (format!("{HOME}/insights"), "Suggested:"),
        (format!("{HOME}/tasks"), task),
        (format!("{HOME}/tasks/{task}"), "Attempts"),
        (format!("{HOME}/changes"), "First start"),
        (format!("{HOME}/models/{NANO}"), "Compare two versions"),
        (format!("{HOME}/models/{NANO}/versions/1"), "Content hash"),
    ] {
        let page = page(&site, &path).await;
        assert!(page.text.contains(says), "{path} does not say {says:?}: {}", page.text);
        assert!(data(&site, &path).await.is_object(), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let site = testing_site().await;
    for (path, code) in [
        ("/analytics/nothing".to_owned(), "unknown_workflow"),
        (format!("{HOME}/cycles/99"), "unknown_cycle"),
        (format!("{HOME}/tasks/none"), "unknown_task"),
        (format!("{HOME}/tasks/a%00b"), "invalid_query"),
        (format!("{HOME}/models/none"), "unknown_model"),
        (format!("{HOME}/models/{NANO}?from=1&to=9"), "unknown_version"),
        (format!("{HOME}/cycles?table=none&as=csv"), "unknown_table"),
        (format!("{HOME}/cycles?table=cycles&as=xml"), "invalid_query"),
        (format!("{HOME}/tasks?after=soon"), "invalid_query"),
        (format!("{HOME}/tasks?colour=red"), "invalid_query"),
    ] {
        assert_eq!(site.get(&path).await.problem().1, code, "{path}");
    }
}

#[tokio::test]
async fn every_table_of_a_page_is_a_file_too() {
    let site = testing_site().await;
    let csv = site.get(&format!("{HOME}/cycles/1?table=transitions&as=csv")).await;
    assert_eq!(csv.headers[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    assert!(csv.headers[header::CONTENT_DISPOSITION].to_str().unwrap().contains("transitions.csv"));
    let lines: Vec<&str> = csv.text.lines().collect();
    assert_eq!(lines[0], "seq,at,event,to,actor,reason");
    assert!(lines[1].starts_with("1,2026-11-23T12:00:00"), "{}", lines[1]);
    let json = site.get(&format!("{HOME}/cycles/1?table=transitions&as=json")).await.json();
    assert_eq!(json["rows"].as_array().unwrap().len(), lines.len() - 1);
    assert_eq!(json["rows"][0]["event"], "trigger_reached");

    let mut links = Vec::new();
    for path in [HOME.to_owned(), format!("{HOME}/cycles/1"), format!("{HOME}/models/{NANO}")] {
        let html = page(&site, &path).await.text;
        assert_eq!(html.matches("<table>").count(), html.matches("as=csv\"").count(), "{path}");
        links.extend(html.split("href=\"").skip(1).filter_map(|rest| {
            let link = rest.split('"').next()?.replace("&#x2f;", "/").replace("&amp;", "&");
            link.contains("as=csv").then_some(link)
        }));
    }
    assert!(links.len() >= 8, "{links:?}");
    for link in links {
        assert_eq!(site.get(&link).await.status, 200, "{link}");
    }
}

#[tokio::test]
async fn a_signed_in_operator_pauses_and_resumes_by_the_buttons() {
    let site = Site::on(testing_stage().await, false);
    let key = site.key("Ελένη", Role::Operate).await;
    let session = signed_in(&site, &key).await;
    let shown = look(&site, HOME, &session).await.text;
    let token = shown.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let pause = format!("{HOME}/cycles/1/pause");

    let forged = form(&site, &pause, &session, "csrf=guessed".to_owned()).await;
    assert_eq!(forged.problem(), (403, "csrf_token".to_owned()));
    assert_eq!(form(&site, &pause, &session, String::new()).await.status, 403);
    assert_eq!(form(&site, &pause, "", format!("csrf={token}")).await.status, 401);
    assert!(site.stage.status().await.holds.is_empty(), "nobody was taken in");

    let paused = form(&site, &pause, &session, format!("csrf={token}&reason=lunch")).await;
    assert_eq!(
        (paused.status.as_u16(), &paused.headers[header::LOCATION]),
        (303, &HOME.parse().unwrap())
    );
    let hold = &site.stage.status().await.holds[0];
    assert_eq!((hold.by.as_str(), hold.reason.as_str()), ("Ελένη", "lunch"));
    let held = look(&site, HOME, &session).await.text;
    assert!(held.contains("On hold: Paused") && held.contains("lunch"));

    let resume = format!("{HOME}/cycles/1/resume");
    form(&site, &resume, &session, format!("csrf={token}")).await;
    assert!(site.stage.status().await.holds.is_empty());
    let again = form(&site, &resume, &session, format!("csrf={token}")).await;
    assert_eq!(again.status, 409, "{}", again.text);
}

#[tokio::test]
async fn a_reader_has_no_buttons_and_cannot_press_them() {
    let site = Site::on(testing_stage().await, false);
    let key = site.key("reader", Role::Read).await;
    let session = signed_in(&site, &key).await;
    let shown = look(&site, HOME, &session).await.text;
    assert!(!shown.contains("/pause") && shown.contains("Sign out"));
    let token = shown.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let act =
        form(&site, &format!("{HOME}/cycles/1/pause"), &session, format!("csrf={token}")).await;
    assert_eq!(act.problem(), (403, "role_insufficient".to_owned()));
}

#[tokio::test]
async fn a_rollback_is_asked_for_on_a_page_that_shows_what_it_changes() {
    let site = testing_site().await;
    let model = format!("{HOME}/models/{NANO}");
    let asked = page(&site, &format!("{model}?rollback=2")).await.text;
    assert!(asked.contains("Put version 2 back?") && asked.contains("class=\"add\""), "{asked}");
    let answer =
        form(&site, &format!("{model}/rollback"), "", "to=2&reason=better".to_owned()).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    let status = site.stage.status().await;
    let nano = status.models.iter().find(|known| known.model == NANO).unwrap();
    assert!(!nano.testing, "the test of that model is over: {nano:?}");
    let nowhere = form(&site, &format!("{model}/rollback"), "", "to=77".to_owned()).await;
    assert_eq!(nowhere.problem().0, 404);
}

#[tokio::test]
async fn a_hostile_task_stays_text_on_every_page() {
    let stage = Stage::new().await;
    let run = TaskRun::new("evil/<b>?#", &[(NANO, 0, 7)]);
    stage.log(TaskRun { prompt: HOSTILE.to_owned(), ..run }.events()).await;
    let site = Site::on(stage, true);
    let path = format!("{HOME}/tasks/evil%2F%3Cb%3E%3F%23");
    let html = page(&site, &path).await.text;
    assert!(html.contains("&lt;script&gt;document"), "{html}");
    assert_eq!(html.matches("<script").count(), 1, "only the page's own");
    assert!(page(&site, &format!("{HOME}/tasks")).await.text.contains("evil%2F%3Cb%3E%3F%23"));
}

#[tokio::test]
async fn a_task_leads_to_how_its_prompt_came_to_be() {
    let stage = testing_stage().await;
    stage.play_test("test", candidates_win).await;
    let site = Site::on(stage, true);
    let mut edited = 0;
    for n in 1..=20 {
        let task = page(&site, &format!("{HOME}/tasks/test-{n}")).await.text.replace("&#x2f;", "/");
        let why = format!("{HOME}/tasks/test-{n}/why?model={NANO}");
        assert!(task.contains(&format!("href=\"{why}\"")), "{task}");
        let told = page(&site, &why).await.text;
        assert!(told.contains(&format!("How the prompt of {NANO} came to be")), "{told}");
        let version = data(&site, &why).await["blame"]["version"].as_i64().expect("a version");
        let because = told.contains("Logos change when the prompt does not say to keep them.");
        assert_eq!(because, version == 2, "version {version}: {told}");
        edited += i32::from(because);
    }
    assert_eq!(edited, 10, "half of the deck is the candidate's");
    let path = format!("{HOME}/tasks/test-1/why?model=dall-e");
    assert_eq!(asked_by_a_program(&site, &path).await.problem(), (404, "no_attempt".to_owned()));
}
