//! Waiting for the account's limits, and for those that WaveSpeed names, before anything is asked for.

use super::*;

#[tokio::test]
async fn a_rate_limit_closes_the_door_and_is_handed_back() {
    let limited = json(429, include_str!("../fixtures/error_429.json"));
    let stage = stage([limited.clone().with("retry-after", 120), json(200, SUBMITTED)]).await;
    let error = stage.submit().await.unwrap_err();
    assert_eq!(error.next, Next::Later { after: Some(Duration::from_mins(2)) });
    assert_eq!(stage.submit().await.unwrap_err().code, "wavespeed_rate_limited");
    assert_eq!(stage.service.calls(), 1, "the second never left");
    stage.clock.advance(TimeDelta::seconds(121));
    stage.submit().await.unwrap();

    stage.service.then([limited, json(200, SUBMITTED)]);
    let error = stage.submit().await.unwrap_err();
    assert_eq!(error.next, Next::Later { after: Some(LIMITED_WAIT) });
    stage.submit().await.unwrap();
    assert!(stage.clock.slept_s().contains(&15), "a short wait is sat through");
}

#[tokio::test]
async fn submits_keep_to_the_accounts_pictures_a_minute() {
    let service = testing::Service::answering([json(200, SUBMITTED)]).await;
    let clock = SleptClock::new();
    let wavespeed = client(&service.base_url, &clock, |settings| {
        settings.submits_per_minute = NonZeroU32::new(3).unwrap();
        settings.concurrent_max = NonZeroU32::new(100).unwrap();
    });
    for _ in 0..4 {
        submit(&wavespeed, "a/b").await.unwrap();
    }
    assert_eq!(service.calls(), 4);
    assert_eq!(clock.now(), start() + TimeDelta::seconds(20), "the fourth waited for its share");
}

#[tokio::test]
async fn no_more_predictions_run_at_once_than_the_account_may() {
    let service = testing::Service::answering([json(200, SUBMITTED)]).await;
    let clock = SleptClock::new();
    let wavespeed = client(&service.base_url, &clock, |settings| {
        settings.concurrent_max = NonZeroU32::MIN;
        settings.submits_per_minute = NonZeroU32::new(100).unwrap();
    });
    let first = submit(&wavespeed, "a/b").await.unwrap();
    let second = tokio::spawn({
        let wavespeed = wavespeed.clone();
        async move { submit(&wavespeed, "a/b").await }
    });
    tokio::task::yield_now().await;
    assert_eq!(service.calls(), 1, "the second waits for the first to end");
    service.then([json(200, COMPLETED), json(200, SUBMITTED)]);
    wavespeed.wait(&first.id, start() + TimeDelta::hours(9)).await.unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(service.calls(), 3);
}

#[tokio::test]
async fn a_prediction_that_nobody_waits_for_gives_its_slot_back() {
    let service = testing::Service::answering([json(200, SUBMITTED)]).await;
    let clock = SleptClock::new();
    let wavespeed =
        client(&service.base_url, &clock, |settings| settings.concurrent_max = NonZeroU32::MIN);
    submit(&wavespeed, "a/b").await.unwrap();
    submit(&wavespeed, "a/b").await.unwrap();
    assert!(clock.now() >= start() + TimeDelta::minutes(15));
}

#[tokio::test]
async fn waiting_is_over_before_asking_begins() {
    let service = testing::Service::answering([json(200, SUBMITTED)]).await;
    let clock = SleptClock::new();
    let wavespeed = client(&service.base_url, &clock, |settings| {
        settings.submits_per_minute = NonZeroU32::MIN;
        settings.concurrent_max = NonZeroU32::new(2).unwrap();
    });
    let first = wavespeed.ready().await.unwrap();
    let later = wavespeed.ready().await.unwrap_err();
    assert!(matches!(later.next, Next::Later { after: Some(_) }), "{later:?}");
    assert_eq!((service.calls(), clock.slept_s().len()), (0, 0));
    wavespeed.submit(first, "a/b", &body()).await.unwrap();
    assert_eq!((service.calls(), clock.slept_s().len()), (1, 0), "it does not wait itself");
}

#[tokio::test]
async fn a_permit_that_is_not_used_gives_its_slot_back() {
    let service = testing::Service::answering([json(200, SUBMITTED)]).await;
    let clock = SleptClock::new();
    let wavespeed = client(&service.base_url, &clock, |settings| {
        settings.concurrent_max = NonZeroU32::MIN;
        settings.submits_per_minute = NonZeroU32::new(100).unwrap();
    });
    let held = wavespeed.ready().await.unwrap();
    let mut next = Box::pin(wavespeed.ready());
    assert!(futures::poll!(&mut next).is_pending(), "there is one slot");
    drop(held);
    let _second = next.await.unwrap();
}

#[tokio::test]
async fn a_limit_that_came_after_the_permit_keeps_the_call_from_leaving() {
    let limited = json(429, include_str!("../fixtures/error_429.json")).with("retry-after", 20);
    let stage = stage([limited, json(200, SUBMITTED)]).await;
    let early = stage.wavespeed.ready().await.unwrap();
    stage.submit().await.unwrap_err();
    let sent = stage.wavespeed.submit(early, "a/b", &body()).await;
    assert_eq!(sent.unwrap_err().code, "wavespeed_rate_limited");
    assert_eq!(stage.service.calls(), 1, "the second never left");
}
