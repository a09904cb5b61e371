//! The root of a loop's trace: a W3C traceparent with random ids.

/// A new sampled traceparent: version 00, random trace id and span id, neither of them zero.
pub(crate) fn new_traceparent() -> String {
    let trace = rand::random::<u128>().max(1);
    let span = rand::random::<u64>().max(1);
    format!("00-{trace:032x}-{span:016x}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_form_of_w3c() {
        let text = new_traceparent();
        let lengths: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        assert_ne!(new_traceparent(), text);
    }
}
