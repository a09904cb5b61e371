//! Keys, seals, and the file.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn value() -> SecretValue {
    SecretValue::new(b"hunter2-hunter2".to_vec()).unwrap()
}

#[test]
fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let keys = SecretKeys::at(&file).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let place = LoopKey::new("a", "token");
    let (id, sealed) = keys.ring().seal(&place, &value()).unwrap();
    assert_ne!(keys.ring().seal(&place, &value()).unwrap().1, sealed, "never the same twice");
    let again = SecretKeys::at(&file).unwrap();
    assert_eq!(again.ring().open(&place, &id, &sealed), Ok(value()));
    let elsewhere = LoopKey::new("b", "token");
    assert_eq!(again.ring().open(&elsewhere, &id, &sealed), Err(OpenError::Spoilt));
    let mut spoilt = sealed.clone();
    let last = if spoilt.ends_with('0') { "1" } else { "0" };
    spoilt.replace_range(spoilt.len() - 1.., last);
    assert_eq!(again.ring().open(&place, &id, &spoilt), Err(OpenError::Spoilt));
    for bad in ["", "00", "zz", &sealed[..64]] {
        assert_eq!(again.ring().open(&place, &id, bad), Err(OpenError::Spoilt), "{bad}");
    }
    let other = SecretKeys::at(&dir.path().join("other")).unwrap();
    assert!(matches!(other.ring().open(&place, &id, &sealed), Err(OpenError::UnknownKey(_))));
    assert!(!format!("{keys:?}").contains(std::fs::read_to_string(&file).unwrap().trim()));
}

#[test]
fn a_new_key_in_front_seals_and_the_old_one_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let place = LoopKey::new("a", "token");
    let (id, sealed) = SecretKeys::at(&old).unwrap().ring().seal(&place, &value()).unwrap();
    SecretKeys::at(&new).unwrap();
    let both = [std::fs::read_to_string(&new).unwrap(), std::fs::read_to_string(&old).unwrap()];
    std::fs::write(&new, both.concat()).unwrap();
    let keys = SecretKeys::at(&new).unwrap();
    assert_eq!(keys.ring().open(&place, &id, &sealed), Ok(value()));
    assert_ne!(keys.ring().seal(&place, &value()).unwrap().0, id);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    SecretKeys::at(&file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SecretKeys::at(&file), Err(KeyFileError::Open { .. })));
    let junk = dir.path().join("junk");
    std::fs::write(&junk, "hello").unwrap();
    std::fs::set_permissions(&junk, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(SecretKeys::at(&junk), Err(KeyFileError::Malformed { line: 1, .. })));
}

#[test]
fn a_new_key_is_taken_up_without_a_restart_and_an_old_one_can_go() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let (place, keys) = (LoopKey::new("a", "token"), SecretKeys::at(&file).unwrap());
    let other = SecretKeys::at(&file).unwrap();
    let (old, sealed) = keys.ring().seal(&place, &value()).unwrap();
    keys.add().unwrap();
    let ids = other.ring().ids();
    assert_eq!((ids.len(), &ids[1]), (2, &old));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (new, sealed_anew) = other.ring().seal(&place, &value()).unwrap();
    assert_eq!((other.ring().sealing_id(), ids[0].as_str()), (new.as_str(), new.as_str()));
    assert_eq!(keys.ring().open(&place, &old, &sealed), Ok(value()));
    // Whatever is asked for, the key that seals stays.
    keys.remove(&ids.iter().cloned().collect()).unwrap();
    assert_eq!(other.ring().ids(), std::slice::from_ref(&new));
    assert_eq!(other.ring().open(&place, &new, &sealed_anew), Ok(value()));
    assert_eq!(other.ring().open(&place, &old, &sealed), Err(OpenError::UnknownKey(old)));
}

#[test]
fn a_file_that_is_spoilt_leaves_the_keys_that_were_known() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let keys = SecretKeys::at(&file).unwrap();
    let before = keys.ring().ids();
    std::fs::write(&file, "half a line").unwrap();
    assert_eq!(keys.ring().ids(), before);
    assert!(keys.add().is_err());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(keys.ring().ids(), before);
    let new = SecretKeys::add_to(&file).unwrap();
    assert_eq!(keys.ring().ids(), [new]);
}

#[test]
fn a_file_takes_no_more_keys_than_it_can_be_read_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let full = (0..100).find_map(|_| SecretKeys::add_to(&file).err()).unwrap();
    assert!(full.to_string().contains("--drop-old"), "{full}");
    assert_eq!(SecretKeys::at(&file).unwrap().ring().ids().len(), 16);
}
