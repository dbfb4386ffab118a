//! What trackers hear at the end: `completed` and `stopped`.

use super::*;

#[test]
fn completed_is_told_once() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.handle_completed(at(100));
    let action = announcer.poll_action().unwrap();
    assert_eq!((action.request.event, action.request.left), (Some(Event::Completed), 0));
    announcer.handle_response(at(100), action.id, Ok(&response()));
    announcer.handle_timeout(at(1900));
    assert_eq!(succeed(&mut announcer, at(1900)).1, None);
}

#[test]
fn completed_is_told_when_a_tracker_is_back() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    fail(&mut announcer, at(0));
    announcer.handle_completed(at(1));
    assert_eq!(announcer.poll_action(), None, "completion is no reason to hammer a tracker that is down");
    let back = announcer.poll_timeout().unwrap();
    announcer.handle_timeout(back);
    assert_eq!(succeed(&mut announcer, back).1, Some(Event::Started));
    assert_eq!(succeed(&mut announcer, back).1, Some(Event::Completed));
    assert_eq!(announcer.poll_action(), None);
}

#[test]
fn stop_tells_each_tracker_that_lists_us() {
    let mut announcer = announcer(&[&["a"], &["b"], &["c"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.handle_timeout(at(1800));
    fail(&mut announcer, at(1800));
    succeed(&mut announcer, at(1800));
    announcer.handle_stop(at(1900));
    let mut stops = Vec::new();
    while let Some(action) = announcer.poll_action() {
        assert_eq!((action.request.event, action.request.numwant), (Some(Event::Stopped), Some(0)));
        stops.push((action.id, action.url.host_str().unwrap().to_owned()));
    }
    assert_eq!([&stops[0].1, &stops[1].1], ["a.example", "b.example"], "c was never contacted");
    announcer.handle_response(at(1901), stops[0].0, Ok(&response()));
    assert!(!announcer.is_stopped());
    announcer.handle_response(at(1902), stops[1].0, Err(&down()));
    assert!(announcer.is_stopped());
    assert_eq!(announcer.poll_timeout(), None);
}

/// Asserts that nothing is sent before `id` has its answer.
fn stop_waits_for(announcer: &mut Announcer, id: AnnounceId) {
    announcer.handle_stop(at(101));
    assert_eq!(announcer.poll_action(), None, "on another connection `stopped` could overtake it");
    assert!(!announcer.is_stopped());
    announcer.handle_response(at(102), id, Ok(&response()));
    assert!(!announcer.is_stopped());
    assert_eq!(succeed(announcer, at(102)), ("a".into(), Some(Event::Stopped)));
    assert!(announcer.is_stopped());
}

#[test]
fn stopped_does_not_overtake_completed() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.handle_completed(at(100));
    let (completed, _, event) = one(&mut announcer);
    assert_eq!(event, Some(Event::Completed));
    stop_waits_for(&mut announcer, completed);
}

#[test]
fn stopped_does_not_overtake_started() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(100));
    let (started, ..) = one(&mut announcer);
    stop_waits_for(&mut announcer, started);
}

#[test]
fn started_does_not_overtake_stopped_nor_completed_started() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.handle_stop(at(1));
    let (stopped, ..) = one(&mut announcer);
    announcer.handle_start(at(2));
    assert_eq!(announcer.poll_action(), None);
    announcer.handle_response(at(3), stopped, Ok(&response()));
    let (started, _, event) = one(&mut announcer);
    assert_eq!(event, Some(Event::Started));
    announcer.handle_completed(at(4));
    assert_eq!(announcer.poll_action(), None);
    announcer.handle_response(at(5), started, Ok(&response()));
    assert_eq!(one(&mut announcer).2, Some(Event::Completed));
}

#[test]
fn a_stop_waits_for_each_tracker_on_its_own() {
    let tiers = [vec!["http://a.example/announce".to_owned()]];
    let mut announcer = new(&[Family::V4, Family::V6], &tiers, 1);
    announcer.handle_start(at(0));
    let ids = [announcer.poll_action().unwrap().id, announcer.poll_action().unwrap().id];
    announcer.handle_response(at(0), ids[0], Ok(&response()));
    announcer.handle_stop(at(1));
    let first = announcer.poll_action().unwrap();
    assert_eq!((first.family, first.request.event), (Family::V4, Some(Event::Stopped)));
    announcer.handle_response(at(1), ids[1], Err(&NO_V6));
    assert_eq!(announcer.poll_action(), None, "it does not list us");
    announcer.handle_response(at(1), first.id, Ok(&response()));
    assert!(announcer.is_stopped());
}

#[test]
fn completed_is_told_though_the_stop_comes_before_it_is_sent() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    succeed(&mut announcer, at(0));
    announcer.handle_completed(at(100));
    announcer.handle_stop(at(100));
    assert_eq!(succeed(&mut announcer, at(100)).1, Some(Event::Completed));
    assert_eq!(succeed(&mut announcer, at(100)).1, Some(Event::Stopped));
    assert!(announcer.is_stopped());
}

#[test]
fn an_announce_that_was_not_yet_sent_is_dropped_by_a_stop() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    announcer.handle_stop(at(0));
    assert_eq!(announcer.poll_action(), None);
    assert!(announcer.is_stopped());
}

#[test]
fn stop_is_bounded_in_time() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    let (started, ..) = one(&mut announcer);
    announcer.handle_stop(at(1));
    let patience = announcer.poll_timeout().unwrap();
    assert_eq!(patience, at(1) + STOP_PATIENCE);
    announcer.handle_timeout(patience);
    let (_, host, event) = one(&mut announcer);
    assert_eq!((host.as_str(), event), ("a", Some(Event::Stopped)), "it may have listed us already");
    announcer.handle_response(patience, started, Ok(&response()));
    assert_eq!(announcer.poll_action(), None);
    let deadline = announcer.poll_timeout().unwrap();
    assert_eq!(deadline, at(1) + STOP_TIMEOUT);
    assert!(!announcer.is_stopped());
    announcer.handle_timeout(deadline);
    assert!(announcer.is_stopped());
}

#[test]
fn a_stop_with_nothing_to_tell_is_immediate_and_a_restart_starts_anew() {
    let mut announcer = announcer(&[&["a"]]);
    announcer.handle_start(at(0));
    fail(&mut announcer, at(0));
    announcer.handle_stop(at(1));
    assert_eq!(announcer.poll_action(), None);
    assert!(announcer.is_stopped());
    announcer.handle_start(at(100));
    assert_eq!(succeed(&mut announcer, at(100)).1, Some(Event::Started));
}
