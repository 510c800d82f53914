//! One of several candidates is refused from the command line, and the others go on.

use mathesis::cycle::StateName;
use mathesis::workflow::definition::ApprovalAsk;

use super::outputs;
use crate::support::Stage;
use crate::support::stage::{NANO, WAN};

#[tokio::test(flavor = "multi_thread")]
async fn the_candidate_of_one_model_is_refused_by_name_and_the_other_is_tested() {
    let stage = Stage::builder()
        .definition(|definition| {
            definition.trigger.tasks = 3;
            definition.approval.ask = ApprovalAsk::BeforeTest;
        })
        .build()
        .await;
    stage.open_test().await;
    let place = outputs::on(&stage).await;
    let nobodys = place.refused(&["cycle", "refuse", "--model", "dall-e", "--reason", "typo"]);
    assert!(nobodys.starts_with("4 ") && nobodys.contains("dall-e"), "{nobodys}");
    let refused = place.run(&["cycle", "refuse", "--model", NANO, "--reason", "η παλιά αρκεί"]);
    assert_eq!(refused.code, 0, "{}", refused.err);
    let held: Vec<String> = stage.status().await.holds.into_iter().map(|hold| hold.code).collect();
    assert_eq!(held, ["approval_before_test"], "the other still waits for a word");
    assert_eq!(place.run(&["cycle", "approve"]).code, 0);
    let status = stage.status().await;
    let tested: Vec<(&str, bool)> =
        status.models.iter().map(|model| (model.model.as_str(), model.testing)).collect();
    assert_eq!((status.state, tested), (StateName::Testing, vec![(WAN, true), (NANO, false)]));
    assert!(stage.assign("t-1", NANO).await.arm.is_none(), "the refused model is not tested");
    assert!(stage.assign("t-1", WAN).await.arm.is_some());
    let trail = place.run(&["audit", "list"]).out;
    assert!(trail.contains("η παλιά αρκεί") && trail.contains("eleni"), "{trail}");
}
