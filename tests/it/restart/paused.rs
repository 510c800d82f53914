//! Paused during Testing, killed, restarted, resumed: the same deck and the same history, seen and steered by what the
//! public has, the calls over HTTP and the commands.

use serde_json::{Value, json};

use super::WALK;
use crate::support::site::{Drawn, Site, until};
use crate::support::stage::{NANO, WAN};

async fn until_state(site: &Site, cycle: u32, state: &str) {
    let path = format!("/cycles/{cycle}");
    until(state, || async { site.get(&path).await["state"] == state }).await;
}

/// How many slots of a cycle's decks have their score.
pub(super) fn scored(standing: &Value) -> i64 {
    let models = standing["models"].as_array().expect("models").iter();
    models
        .flat_map(|model| ["control", "candidate"].map(|arm| model["scored"][arm].as_i64()))
        .flatten()
        .sum()
}

/// Where the cycle stands, but for the sentence, which tells how long it may take from now.
async fn standing(site: &Site) -> Value {
    let mut standing = site.get("/cycle").await;
    standing["sentence"] = Value::Null;
    standing
}

fn arms<'d>(drawn: impl IntoIterator<Item = &'d Drawn>, model: &str) -> Vec<String> {
    let of_model = drawn.into_iter().filter(|drawn| drawn.model() == model);
    of_model.map(|drawn| drawn.told()["arm"].as_str().expect("an arm").to_owned()).collect()
}

#[tokio::test]
async fn paused_in_testing_killed_restarted_and_resumed_it_goes_on_with_the_same_deck_and_history()
{
    let site = Site::new().await;
    site.start().await;
    site.complete_tasks(1, 50).await;
    until_state(&site, 1, "testing").await;
    let early = site.draw_slots(7).await;
    for drawn in early.iter().step_by(2) {
        site.report(drawn).await;
    }
    let said = site.command(&["cycle", "pause", "1", "--reason", "the Friday freeze"]);
    assert_eq!(said, "Cycle 1 is paused; what runs will finish, nothing new starts.\n");
    until("every score is counted", || async { scored(&standing(&site).await) == 7 }).await;
    let before = (standing(&site).await, site.get("/cycles/1/transitions").await);
    assert_eq!(before.0["holds"][0]["reason"], "the Friday freeze");

    site.kill();
    site.start().await;

    assert_eq!((standing(&site).await, site.get("/cycles/1/transitions").await), before);
    for drawn in &early {
        let told = site.assign(drawn.task(), drawn.model()).await;
        assert_eq!(&told, drawn.told(), "who was dealt a version keeps it");
    }
    let told = site.assign("in-the-pause", NANO).await;
    assert_eq!(
        (&told["arm"], &told["version"]),
        (&Value::Null, &json!(1)),
        "nobody else is dealt one"
    );
    for drawn in early.iter().skip(1).step_by(2) {
        site.report(drawn).await;
    }
    until("scores count in a pause", || async { scored(&standing(&site).await) == 14 }).await;

    let said = site.command(&["cycle", "resume", "1", "--reason", "Monday"]);
    assert_eq!(said, "Cycle 1 goes on.\n");
    let late = site.draw_slots(13).await;
    for drawn in &late {
        site.report(drawn).await;
    }
    until_state(&site, 1, "applied").await;
    for model in [WAN, NANO] {
        let dealt = arms(early.iter().chain(&late), model);
        for block in dealt.chunks(4) {
            let old = block.iter().filter(|arm| *arm == "control").count();
            assert_eq!((block.len(), old), (4, 2), "one deck, block by block: {dealt:?}");
        }
    }
    let history: Value =
        serde_json::from_str(&site.command(&["cycle", "history", "1", "--json"])).expect("JSON");
    let steps = history.as_array().expect("steps");
    let walk: Vec<_> = steps.iter().map(|step| step["to"].as_str().expect("a state")).collect();
    assert_eq!(walk, WALK);
    let earlier = before.1["transitions"].as_array().expect("transitions");
    for (step, known) in steps.iter().zip(earlier) {
        assert_eq!(
            (&step["seq"], &step["event"], &step["at"]),
            (&known["seq"], &known["event"], &known["at"])
        );
    }
    let audit: Value =
        serde_json::from_str(&site.command(&["audit", "list", "--json"])).expect("JSON");
    let acts: Vec<_> =
        audit.as_array().expect("acts").iter().map(|act| act["act"].as_str()).collect();
    assert_eq!(acts, [Some("resume"), Some("pause")]);
}
