//! Providers that fail, in every way and at every moment; clients that go away; deadlines that pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flyball_core::model::Protocol;
use flyball_gateway::{Config, Gone, Iteration};
use flyball_tests::poll;
use flyball_tests::provider::{Fault, Provider, Reply};
use serde_json::json;

use crate::rig::{PROTOCOLS, Rig, Setup, body};

const BOUND: Duration = Duration::from_secs(20);

/// A reply for the first calls, and another one for the rest.
fn first(count: usize, bad: Reply, good: Reply) -> Provider {
    let served = AtomicUsize::new(0);
    Provider::start(move |_| {
        if served.fetch_add(1, Ordering::SeqCst) < count { bad.clone() } else { good.clone() }
    })
}

fn long_text() -> Reply {
    Reply::text(&"a word and another ".repeat(40))
}

#[test]
fn what_passes_by_itself_is_tried_again_here() {
    for bad in [
        Reply::status(529, None),
        Reply::status(500, None),
        Reply::status(429, Some(0)),
        Reply::fault(Fault::HangUp),
    ] {
        for stream in [false, true] {
            let provider = first(2, bad.clone(), Reply::text("done"));
            let mut rig = Rig::new(&provider, Protocol::Anthropic, Setup::default());
            let limited = matches!(bad.fault, Some(Fault::Status { code: 429, .. }));
            let hung = matches!(bad.fault, Some(Fault::HangUp));
            let answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, stream));
            assert_eq!(answer.status, 200, "{bad:?}");
            answer.text();
            let spent = rig.close();
            assert_eq!(
                spent.amount.calls,
                if limited { 1 } else { 3 },
                "each try is a call: a failing provider ends a budget too, a wait for quota does not"
            );
            assert_eq!((spent.answered, spent.refused), (1, 0));
            assert_eq!(spent.estimated, if hung { 2 } else { 0 });
            // Whoever hangs up may have done all of it.
            let unheard = if hung { 2 * 500 } else { 0 };
            assert_eq!(spent.usage.output_total, provider.totals().1.output_total + unheard);
        }
    }
}

#[test]
fn the_next_deployment_answers_when_one_fails_or_does_not_know_the_model() {
    for code in [401, 403, 404, 429, 500, 529, 302] {
        let bad = Provider::start(move |_| Reply::status(code, None));
        let good = Provider::start(|_| Reply::text("done"));
        let (chat, setup) = (Protocol::Chat, Setup::default());
        let rig =
            Rig::many(&[("bad", bad.base(chat), chat), ("good", good.base(chat), chat)], setup);
        let answer = rig.call(chat, &body(chat, false));
        assert_eq!(answer.status, 200, "{code}");
        assert!(answer.text().contains("good-model"));
        assert_eq!(
            (bad.served().len(), good.served().len()),
            (1, 1),
            "{code}: no pause, no second try"
        );
        let told = rig.pool.limited.lock().unwrap().len();
        assert_eq!(told, usize::from(code == 429), "{code}");
    }
}

#[test]
fn the_clients_own_fault_goes_back_in_the_providers_words_and_nobody_else_is_asked() {
    let words = "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long\"}}";
    let fault = Fault::Status { code: 400, retry_after: None, body: Some(words.to_owned()) };
    let provider = Provider::start(move |_| Reply::fault(fault.clone()));
    let mut rig = Rig::new(&provider, Protocol::Anthropic, Setup::default());
    let answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
    assert_eq!((answer.status, answer.text().as_str()), (400, words));
    assert_eq!(provider.served().len(), 1);
    let spent = rig.close();
    assert_eq!((spent.amount.tokens, spent.amount.calls, spent.refused), (0, 1, 1));
}

#[test]
fn a_storm_ends_in_the_providers_words_after_few_tries_and_then_nobody_is_asked() {
    for (code, after) in [(529, None), (503, Some(30))] {
        let provider = Provider::start(move |_| Reply::status(code, after));
        let on_error = json!({ "tries": 3, "failures": 3, "coolDown": "60s", "pauseMax": "2s" });
        let rig = Rig::new(&provider, Protocol::Anthropic, Setup { on_error, ..Setup::default() });
        let answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
        assert_eq!(answer.status, code);
        assert_eq!(answer.header("retry-after").map(str::to_owned), after.map(|s| s.to_string()));
        answer.text();
        let tried = provider.served().len();
        // What is over in half a minute is not waited for within the call.
        assert_eq!(tried, if after.is_some() { 1 } else { 3 }, "{code}");
        // The deployment is left alone: forty calls more ask nobody, and say why.
        for _ in 0..40 {
            let refused = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
            assert!(refused.status >= 400);
            let why = refused.text();
            assert!(why.contains("left alone") && why.contains(&code.to_string()), "{why}");
        }
        assert_eq!(provider.served().len(), tried);
    }
}

/// More often than a deployment may fail, and for longer than it would be waited for.
#[test]
fn an_accounts_limit_is_waited_for_and_its_client_does_not_hear_of_it() {
    for after in [None, Some(1)] {
        let limits = if after.is_some() { 2 } else { 4 };
        let provider = first(limits, Reply::status(429, after), Reply::text("done"));
        let on_error = json!({ "tries": 1, "failures": 9, "pauseMax": "1ms" });
        let rig = Rig::new(&provider, Protocol::Chat, Setup { on_error, ..Setup::default() });
        assert_eq!(rig.call(Protocol::Chat, &body(Protocol::Chat, false)).status, 200);
        assert_eq!(provider.served().len(), limits + 1);
    }
}

/// What the last call got decides: an agent that got its answer in the end was not hindered.
#[test]
fn whether_models_answered_is_told_of_each_iteration() {
    let code = Arc::new(AtomicU16::new(529));
    let provider = Provider::start({
        let code = code.clone();
        move |_| match code.load(Ordering::SeqCst) {
            200 => Reply::text("done"),
            code => Reply::status(code, None),
        }
    });
    let on_error = json!({ "tries": 1, "failures": 99 });
    let chat = Protocol::Chat;
    let mut rig = Rig::new(&provider, chat, Setup { on_error, ..Setup::default() });
    let after = |status: u16| {
        code.store(status, Ordering::SeqCst);
        assert_eq!(rig.call(chat, &body(chat, false)).status, status);
        rig.gate().spent().gone
    };
    let silent = |why: &str| Some(Gone::Silent(format!("one one-model: {why}")));
    assert_eq!(after(529), silent("529"));
    assert_eq!(after(200), None);
    assert_eq!(after(402), silent("402"));
    assert_eq!(after(400), None, "the client's own fault");
    assert_eq!(after(401), silent("401"));
    rig.gate().begin_iteration(Iteration::default());
    assert_eq!(rig.close().gone, None);
}

/// The first to be asked again would be the one that is down.
#[test]
fn a_limit_is_waited_for_where_the_others_are_down_for_long() {
    let busy = first(1, Reply::status(429, Some(1)), Reply::text("done"));
    let down = Provider::start(|_| Reply::status(529, None));
    let chat = Protocol::Chat;
    let on_error = json!({ "tries": 2, "failures": 1, "coolDown": "900ms", "pauseMax": "1ms" });
    let setup = Setup { on_error, ..Setup::default() };
    let rig = Rig::many(&[("busy", busy.base(chat), chat), ("down", down.base(chat), chat)], setup);
    for _ in 0..2 {
        assert_eq!(rig.call(chat, &body(chat, false)).status, 200);
    }
    assert_eq!((busy.served().len(), down.served().len()), (3, 1));
}

/// Whether the provider says so, or answers nothing else for that long.
#[test]
fn an_account_at_its_limit_for_too_long_stops_the_runs_calls() {
    for (after, tries) in [(Some(3600), 1..2), (None, 2..5)] {
        let provider = Provider::start(move |_| Reply::status(429, after));
        let config = Config { quota_wait: Duration::from_secs(1), ..Config::default() };
        let on_error = json!({ "tries": 1, "failures": 9 });
        let setup = Setup { on_error, config, ..Setup::default() };
        let mut rig = Rig::new(&provider, Protocol::Anthropic, setup);
        for _ in 0..20 {
            let refused = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
            assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")));
            let why = refused.text();
            assert!(why.contains("the quota of provider one is used up"), "{why}");
        }
        let tried = provider.served().len();
        assert!(tries.contains(&tried), "{tried}");
        let ended = rig.close().quota.unwrap();
        assert_eq!(ended.provider, "one");
        let longest = Duration::from_secs(after.unwrap_or(2));
        assert!(ended.left <= longest && ended.left >= longest / 8, "{:?}", ended.left);
    }
}

#[test]
fn after_its_rest_a_deployment_is_tried_again() {
    let provider = first(3, Reply::status(503, None), Reply::text("done"));
    let on_error = json!({ "tries": 1, "failures": 3, "coolDown": "50ms", "pauseMax": "1s" });
    let rig = Rig::new(&provider, Protocol::Chat, Setup { on_error, ..Setup::default() });
    for _ in 0..3 {
        assert_eq!(rig.call(Protocol::Chat, &body(Protocol::Chat, false)).status, 503);
    }
    // The rest is shorter than a call may wait, so it is not told.
    assert_eq!(rig.call(Protocol::Chat, &body(Protocol::Chat, false)).status, 200);
    assert_eq!(provider.served().len(), 4);
}

#[test]
fn a_death_in_mid_stream_is_seen_by_the_client_and_no_second_provider_is_asked() {
    for protocol in PROTOCOLS {
        let dying = Reply { fault: Some(Fault::Cut(12)), ..long_text() };
        let dying = Provider::start(move |_| dying.clone());
        let other = Provider::start(|_| Reply::text("done"));
        let places =
            [("one", dying.base(protocol), protocol), ("two", other.base(protocol), protocol)];
        let mut rig = Rig::many(&places, Setup::default());
        let (text, whole) = rig.call(protocol, &body(protocol, true)).rest();
        assert!(!whole && text.contains("a word"), "{protocol:?}: {text}");
        assert!(other.served().is_empty());
        let spent = rig.close();
        let billed = dying.served()[0].usage;
        assert_eq!((spent.estimated, spent.answered), (1, 0));
        assert!(spent.usage.input_total >= billed.input_total, "{spent:?} {billed:?}");
        assert!(spent.usage.output_total >= billed.output_total, "{spent:?} {billed:?}");
        assert!(!rig.bank.over());
    }
}

#[test]
fn an_error_before_any_content_is_a_failed_try_and_after_content_it_passes() {
    let early = first(1, Reply::fault(Fault::ErrorEvent(0)), Reply::text("done"));
    let rig = Rig::new(&early, Protocol::Anthropic, Setup::default());
    let text = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true)).text();
    assert!(text.contains("message_stop") && !text.contains("overloaded"), "{text}");
    let late = Reply { fault: Some(Fault::ErrorEvent(8)), ..long_text() };
    let late = Provider::start(move |_| late.clone());
    let mut rig = Rig::new(&late, Protocol::Anthropic, Setup::default());
    let text = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true)).text();
    assert!(text.contains("a word") && text.contains("overloaded_error"), "{text}");
    assert_eq!(late.served().len(), 1);
    assert_eq!(rig.close().answered, 0);
}

#[test]
fn events_that_are_none_pass_and_are_not_counted_too_low() {
    for protocol in PROTOCOLS {
        let junk = Reply { fault: Some(Fault::Malformed(5)), ..long_text() };
        let provider = Provider::start(move |_| junk.clone());
        let mut rig = Rig::new(&provider, protocol, Setup::default());
        let text = rig.call(protocol, &body(protocol, true)).text();
        assert!(text.contains("nonsense"));
        let (spent, billed) = (rig.close(), provider.totals().1);
        assert!(spent.usage.output_total >= billed.output_total, "{spent:?} {billed:?}");
        assert!(spent.usage.input_total >= billed.input_total);
    }
}

#[test]
fn a_silent_stream_gets_pings_between_events_and_every_byte_of_it_passes() {
    for protocol in PROTOCOLS {
        let silent =
            Reply { fault: Some(Fault::Silence(6, Duration::from_millis(700))), ..long_text() };
        let provider = Provider::start(move |_| silent.clone());
        let config = Config { ping_after: Duration::from_millis(100), ..Config::default() };
        let mut rig = Rig::new(&provider, protocol, Setup { config, ..Setup::default() });
        let text = rig.call(protocol, &body(protocol, true)).text();
        let pings = text.matches("ping").count();
        assert!(pings >= 3, "{protocol:?}: {pings} pings in {text}");
        assert_eq!(rig.close().usage, provider.totals().1);
    }
}

#[test]
#[ignore = "five minutes of real silence, at the settings that are shipped"]
fn a_stream_that_is_silent_for_five_minutes_reaches_its_client_whole() {
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            scope.spawn(move || {
                let fault = Some(Fault::Silence(6, Duration::from_secs(300)));
                let silent = Reply { fault, ..long_text() };
                let provider = Provider::start(move |_| silent.clone());
                let mut rig = Rig::new(&provider, protocol, Setup::default());
                let text = rig.call(protocol, &body(protocol, true)).text();
                let pings = text.matches("ping").count();
                assert!(pings >= 15, "{protocol:?}: {pings} pings");
                assert_eq!(rig.close().usage, provider.totals().1);
            });
        }
    });
}

#[test]
fn a_model_that_thinks_long_before_its_first_byte_does_not_lose_its_client() {
    for (reply, expected) in [
        (Reply::text("done").paced(Duration::from_millis(300)), "done"),
        (
            Reply {
                fault: Some(Fault::Status { code: 400, retry_after: None, body: None }),
                ..Reply::text("")
            },
            "scripted",
        ),
    ] {
        let provider = Provider::start(move |asked| {
            // Before the head, too.
            std::thread::sleep(Duration::from_millis(if asked.number == 0 { 500 } else { 0 }));
            reply.clone()
        });
        let config = Config {
            head_after: Duration::from_millis(100),
            ping_after: Duration::from_millis(100),
            ..Config::default()
        };
        let rig = Rig::new(&provider, Protocol::Anthropic, Setup { config, ..Setup::default() });
        let mut answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
        assert_eq!(answer.status, 200);
        answer.until("event: ping");
        let text = answer.text();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_client_that_goes_away_ends_the_providers_work_and_pays_for_what_was_done() {
    for protocol in PROTOCOLS {
        for stream in [true, false] {
            let slow = long_text().paced(Duration::from_millis(if stream { 50 } else { 60_000 }));
            let provider = Provider::start(move |_| slow.clone());
            let mut rig = Rig::new(&provider, protocol, Setup::default());
            if stream {
                let mut answer = rig.call(protocol, &body(protocol, true));
                answer.until("word");
                drop(answer);
            } else {
                let client = rig.begin(protocol);
                poll::until("the provider is at work", BOUND, || {
                    (provider.open() == 1).then_some(())
                });
                drop(client);
            }
            if stream {
                poll::until("the provider is let go", BOUND, || {
                    (provider.open() == 0).then_some(())
                });
            }
            poll::until("it is settled", BOUND, || {
                (rig.gate().spent().amount.calls == 1).then_some(())
            });
            let spent = rig.close();
            assert_eq!((spent.estimated, spent.answered), (1, 0), "{protocol:?} {stream}");
            if let Some(served) = provider.served().first() {
                assert!(spent.usage.input_total >= served.usage.input_total);
                assert!(spent.usage.output_total >= served.usage.output_total);
            } else {
                // Nothing was heard of it: it may have done all of it.
                assert_eq!(spent.usage.output_total, 500);
            }
        }
    }
}

#[test]
fn a_deadline_in_mid_stream_cuts_the_stream_and_the_provider() {
    for protocol in PROTOCOLS {
        let slow = long_text().paced(Duration::from_millis(30));
        let provider = Provider::start(move |_| slow.clone());
        let mut rig = Rig::new(&provider, protocol, Setup::default());
        rig.fence.until(Instant::now() + Duration::from_secs(20));
        let mut answer = rig.call(protocol, &body(protocol, true));
        answer.until("word");
        rig.fence.let_down();
        let (_, whole) = answer.rest();
        assert!(!whole, "{protocol:?}: a stream that was cut must not look whole");
        poll::until("the provider is let go", BOUND, || (provider.open() == 0).then_some(()));
        let spent = rig.close();
        assert_eq!(spent.estimated, 1);
        assert!(spent.usage.output_total >= provider.served()[0].usage.output_total);
    }
}

#[test]
fn a_deadline_passes_while_nothing_comes() {
    let silent = Reply { fault: Some(Fault::Silence(5, Duration::from_secs(60))), ..long_text() };
    let provider = Provider::start(move |_| silent.clone());
    let rig = Rig::new(&provider, Protocol::Anthropic, Setup::default());
    rig.fence.until(Instant::now() + Duration::from_secs(3));
    let mut answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
    answer.until("message_start");
    let (_, whole) = answer.rest();
    assert!(!whole);
    poll::until("it is settled", BOUND, || (rig.gate().spent().amount.calls == 1).then_some(()));
}
