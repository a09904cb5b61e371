//! Streams that are cut: never charged less than the provider counted, and not much more where that can be known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyball_core::model::{ModelPrice, Protocol, Usage};
use flyball_gateway::Spent;
use flyball_tests::poll;
use flyball_tests::provider::{Block, Fault, Provider, Reply};
use serde_json::Value;

use crate::rig::{PROTOCOLS, Rig, Setup, body};

const BOUND: Duration = Duration::from_secs(20);
/// What the client allows the model to say: much more than it does before the cut.
const ALLOWED: u64 = 152_000;
/// Tokens that an estimate adds for what may be on its way, and for each block.
const MARGIN: u64 = 256 + 32;

/// Who cuts the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Client,
    Provider,
    Deadline,
}

fn asked(protocol: Protocol) -> Value {
    let mut body = body(protocol, true);
    let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let own = limits.into_iter().find(|name| body.get(*name).is_some()).unwrap();
    body[own] = ALLOWED.into();
    body
}

/// The model shows all that it says.
fn shows() -> Setup {
    let price = ModelPrice {
        input: "3 USD".parse().unwrap(),
        output: "15 USD".parse().unwrap(),
        hidden_reasoning: Some(false),
        ..ModelPrice::default()
    };
    Setup { prices: BTreeMap::from([("one-model".to_owned(), price)]), ..Setup::default() }
}

/// Asks for a long answer that is cut when some of it has come. What was charged, and what the provider counted.
fn cut(protocol: Protocol, by: Cut, reply: &Reply, setup: Setup) -> (Spent, u64) {
    let mut reply = reply.clone().paced(Duration::from_millis(5));
    reply.fault = (by == Cut::Provider).then_some(Fault::Cut(60));
    let provider = Provider::start(move |_| reply.clone());
    let mut rig = Rig::new(&provider, protocol, setup);
    let mut answer = rig.call(protocol, &asked(protocol));
    answer.until("word");
    match by {
        Cut::Client => drop(answer),
        Cut::Provider => assert!(!answer.rest().1),
        Cut::Deadline => {
            rig.fence.until(Instant::now());
            assert!(!answer.rest().1);
        }
    }
    poll::until("it is settled", BOUND, || (rig.gate().spent().amount.calls == 1).then_some(()));
    let served =
        poll::until("the provider has counted", BOUND, || provider.served().first().cloned());
    let spent = rig.close();
    assert_eq!((spent.estimated, spent.answered), (1, 0), "{protocol:?} {by:?}: marked");
    assert!(!rig.bank.over());
    assert!(spent.usage.input_total >= served.usage.input_total, "{protocol:?} {by:?}");
    (spent, served.usage.output_total)
}

fn long_text() -> Reply {
    Reply::text(&"a word and another ".repeat(400))
}

#[test]
fn what_was_seen_of_a_stream_is_charged_and_a_little_more() {
    for protocol in PROTOCOLS {
        for by in [Cut::Client, Cut::Provider, Cut::Deadline] {
            let (spent, served) = cut(protocol, by, &long_text(), shows());
            let charged = spent.usage.output_total;
            assert!(charged >= served, "{protocol:?} {by:?}: {charged} for {served}");
            // A token for each byte where the provider counts one for four, and half a second's worth of more events
            // on a slow machine.
            let most = 4 * served + MARGIN + 12 * 100;
            assert!(charged <= most, "{protocol:?} {by:?}: {charged} for {served}");
        }
    }
}

#[test]
fn where_something_may_be_hidden_all_of_it_is_charged() {
    let thinks = Reply::new(vec![
        Block::Thinking("hm ".repeat(40)),
        Block::Text("a word and another ".repeat(400)),
    ]);
    for protocol in PROTOCOLS {
        let (spent, _) = cut(protocol, Cut::Client, &thinks, Setup::default());
        assert_eq!(spent.usage.output_total, ALLOWED, "{protocol:?}");
        let setup = Setup { bills_cut_streams: true, ..shows() };
        let (spent, _) = cut(protocol, Cut::Client, &long_text(), setup);
        assert_eq!(spent.usage.output_total, ALLOWED, "{protocol:?}: the provider works on");
    }
}

/// Kernels and proxies hold megabytes: what a client does not read was made all the same.
#[test]
fn a_client_that_stands_still_and_goes_pays_for_what_it_may_have_left_unread() {
    for protocol in PROTOCOLS {
        // Some twenty megabytes of events, more than is kept on the way to the client, and the shortest tokens.
        let reply = Reply { delta: 1, ..Reply::text(&"a word and another ".repeat(8000)) };
        let usage = Usage { input_total: 50, output_total: ALLOWED, ..Usage::default() };
        let reply = reply.using(usage);
        let provider = Provider::start(move |_| reply.clone());
        let mut rig = Rig::new(&provider, protocol, shows());
        let mut answer = rig.call(protocol, &asked(protocol));
        answer.until("delta");
        std::thread::park_timeout(Duration::from_millis(400));
        drop(answer);
        poll::until("it is settled", BOUND, || {
            (rig.gate().spent().amount.calls == 1).then_some(())
        });
        let served =
            poll::until("the provider has counted", BOUND, || provider.served().first().cloned());
        let spent = rig.close();
        let (charged, served) = (spent.usage.output_total, served.usage.output_total);
        assert!(charged >= served, "{protocol:?}: {charged} for {served}");
    }
}
