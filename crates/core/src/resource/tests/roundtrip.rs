//! Entries as text and as keys: what is written is read back, and no two entries share a key.

use proptest::prelude::*;

use crate::resource::{Entry, ResourceSet};
use crate::spec::Access;

fn entry() -> impl Strategy<Value = Entry> {
    let segment = prop_oneof![
        "[a-c*.%: \u{e9}\\[\\]-]{1,5}",
        Just("*".to_owned()),
        // Any text at all; the grammar sorts it out.
        ".{1,4}",
    ];
    let path = (any::<bool>(), prop::collection::vec(segment, 1..5), any::<bool>());
    (prop_oneof!["git", "gpu", "[a-z][a-z0-9-]{0,4}"], path, any::<bool>())
        .prop_map(|(scheme, (rooted, mut segments, rest), read)| {
            if rest {
                segments.push("**".to_owned());
            }
            let root = if rooted { "/" } else { "" };
            let access = if read { Access::Read } else { Access::Exclusive };
            (access, format!("{scheme}:{root}{}", segments.join("/")))
        })
        .prop_filter_map("not an entry", |(access, text)| Entry::parse(access, &text).ok())
}

proptest! {
    #[test]
    fn text_and_key_name_the_entry(entry in entry()) {
        prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry.clone()));
        let key = entry.owner_key();
        prop_assert!(!key.contains(char::is_control));
        prop_assert_eq!(Entry::from_owner_key(entry.access(), &key), Ok(entry));
    }

    #[test]
    fn keys_and_order_agree_with_equality(one in entry(), two in entry()) {
        let same = one.scheme() == two.scheme() && one.segments() == two.segments();
        prop_assert_eq!(one.owner_key() == two.owner_key(), same);
        prop_assert_eq!(one.cmp(&two).is_eq(), one == two);
        prop_assert!(one.overlaps(&one));
        prop_assert_eq!(one.overlaps(&two), two.overlaps(&one));
    }

    #[test]
    fn sets_survive_their_canonical_form(entries in prop::collection::vec(entry(), 0..6)) {
        let texts: Vec<String> = entries.iter().map(ToString::to_string).collect();
        if let Ok(set) = ResourceSet::from_canonical(&texts) {
            prop_assert_eq!(ResourceSet::from_canonical(&set.canonical()), Ok(set.clone()));
            let keys: std::collections::BTreeSet<_> = set.owner_keys().collect();
            prop_assert_eq!(keys.len(), set.len());
        }
    }
}

#[test]
fn keys_are_as_the_store_lists_them() {
    let entries = ["git:example.org/r/src/**", "read git:/srv/x/docs/*", "gpu:n1/0"];
    let set = ResourceSet::from_canonical(&entries).unwrap();
    let keys: Vec<_> = set.owner_keys().collect();
    assert_eq!(
        keys,
        [
            (Access::Read, "git//srv/x/docs/*".to_owned()),
            (Access::Exclusive, "git/example.org/r/src/**".to_owned()),
            (Access::Exclusive, "gpu/n1/0".to_owned()),
        ]
    );
}
