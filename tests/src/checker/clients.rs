//! Whether what clients were told of one loop name could come from a single copy that does one thing at
//! a time, with Wing and Gong's search (`todc-utils`), name by name.

use std::cell::Cell;
use std::collections::BTreeMap;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::lines::Line;
use super::model::{self, Operation, State};
use super::verdict::{Invariant, Verdict};
use crate::history::{Answer, Call, Event};

/// Most steps of the search per name. It is a few times the number of operations unless many unknown
/// answers overlap, and a billion would take minutes.
const STEPS_MAX: usize = if cfg!(test) { 20_000 } else { 1_000_000 };
/// Most bytes that the search remembers: a byte per step and action.
const MEMORY_MAX: usize = 400 << 20;
/// Most operations per name: the search takes time in their square.
const OPERATIONS_MAX: usize = 4000;

thread_local! {
    /// Steps that are left.
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// The model of one loop name, as the search needs it. When the steps are used up everything is allowed,
/// so that the search ends at once; what it then says is not used.
struct LoopName;

impl Specification for LoopName {
    type State = State;
    type Operation = Operation;

    fn init() -> State {
        State::default()
    }

    fn apply(operation: &Operation, state: &State) -> (bool, State) {
        let left = STEPS.get();
        STEPS.set(left.saturating_sub(1));
        if left == 0 {
            return (true, state.clone());
        }
        match model::apply(operation, state) {
            Some(next) => (true, next),
            None => (false, state.clone()),
        }
    }
}

/// A call with its answer, as it stands in the history.
struct Operated<'a> {
    call: &'a Call,
    invoked: &'a Line,
    /// Position among all lines; none for calls that nobody answered.
    invoked_at: usize,
    answer: Option<(&'a Answer, usize, &'a Line)>,
}

pub(super) fn judge(lines: &[Line], verdict: &mut Verdict) {
    let mut by_name: BTreeMap<&str, Vec<Operated<'_>>> = BTreeMap::new();
    for operated in operations(lines).into_values() {
        by_name.entry(name_of(operated.call)).or_default().push(operated);
    }
    verdict.count("loop names", by_name.len());
    for (name, operated) in by_name {
        verdict.count("operations", operated.len());
        let first = operated.iter().map(|it| it.invoked.number).min().unwrap_or(0);
        let last = operated.iter().filter_map(|it| it.answer).map(|it| it.2.number).max();
        let span = [first, last.unwrap_or(first)];
        match linearizable(&operated) {
            Some(true) => {}
            Some(false) => {
                let message = format!(
                    "what clients were told of {name} in {} operations between these lines fits no order of them: {}",
                    operated.len(),
                    shortest(operated)
                );
                verdict.add(Invariant::Linearizable, &span, message);
            }
            None => {
                let message = format!(
                    "{name} has {} operations with too many unknown answers to be judged within {STEPS_MAX} steps, or more than {OPERATIONS_MAX}",
                    operated.len()
                );
                verdict.add(Invariant::Sanity, &span, message);
            }
        }
    }
}

fn operations(lines: &[Line]) -> BTreeMap<u64, Operated<'_>> {
    let mut found = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        match &line.event {
            Event::Invoke { op, call, .. } => {
                let operated = Operated { call, invoked: line, invoked_at: at, answer: None };
                found.insert(*op, operated);
            }
            Event::Return { op, answer } => {
                if let Some(operated) = found.get_mut(op) {
                    operated.answer = Some((answer, at, line));
                }
            }
            _ => {}
        }
    }
    found
}

fn name_of(call: &Call) -> &str {
    match call {
        Call::Apply { key, .. }
        | Call::Get { key }
        | Call::Cancel { key }
        | Call::Delete { key } => key,
    }
}

/// `None`: too many to say.
fn linearizable(operated: &[Operated<'_>]) -> Option<bool> {
    let mut words = model::Words::default();
    // Position, whether it is the return, process, operation.
    let mut actions = Vec::new();
    for (process, it) in operated.iter().enumerate() {
        let answer = it.answer.map(|(answer, ..)| answer);
        let Some(operation) = words.operation(it.call, answer) else { continue };
        // An unknown answer may have its effect at any time: it returns after everything else.
        let known = it.answer.filter(|(answer, ..)| !matches!(answer, Answer::Unknown { .. }));
        let returned_at = known.map_or(usize::MAX, |(_, at, _)| at);
        actions.push((it.invoked_at, process, Action::Call(operation.clone())));
        actions.push((returned_at, process, Action::Response(operation)));
    }
    if actions.is_empty() {
        return Some(true);
    }
    if actions.len() > 2 * OPERATIONS_MAX {
        return None;
    }
    actions.sort_by_key(|(at, ..)| *at);
    STEPS.set(STEPS_MAX.min(MEMORY_MAX / actions.len()));
    let actions = actions.into_iter().map(|(_, process, action)| (process, action)).collect();
    let good = WGLChecker::<LoopName>::is_linearizable(History::from_actions(actions));
    (STEPS.get() > 0).then_some(good)
}

/// The first answer with which the history stops making sense: the shortest beginning that is wrong.
fn shortest(mut operated: Vec<Operated<'_>>) -> String {
    let mut ends: Vec<usize> = operated.iter().filter_map(|it| it.answer.map(|it| it.1)).collect();
    ends.sort_unstable();
    // Once wrong, a history stays wrong; so the first wrong end can be searched by halves.
    let wrong = ends.partition_point(|end| {
        let early: Vec<Operated<'_>> = operated
            .iter()
            .filter(|it| it.invoked_at <= *end)
            .map(|it| Operated { answer: it.answer.filter(|(_, at, _)| at <= end), ..*it })
            .collect();
        linearizable(&early) != Some(false)
    });
    let Some(end) = ends.get(wrong) else { return "no single answer is to blame".to_owned() };
    operated.retain(|it| it.answer.is_some_and(|(_, at, _)| at == *end));
    operated.first().map_or_else(String::new, |it| {
        let (answer, line) = it.answer.map_or((None, 0), |it| (Some(it.0), it.2.number));
        format!("the answer in line {line} to the call in line {} does not fit what came before ({answer:?})", it.invoked.number)
    })
}
