//! The shared page: one deadline that the worker moves and that guard and step inits read by
//! themselves, so that an extension costs no system call and cannot be held up by anybody.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use flyball_core::lease::BootInstant;
use flyball_core::planted::{self, Bug};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use crate::clock::{FAR_AWAY, boottime};
use crate::sys::{SHARED_BYTES, SharedMapping};

/// What the page says at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// No deadline was ever set: nothing may run.
    None,
    /// Things may run until then.
    Until(BootInstant),
    /// The deadline has passed, or the guard's life was ended: nothing may run again.
    Over,
}

/// One mapping of the page.
pub(crate) struct Page(SharedMapping);

impl Page {
    /// A new page without a deadline, and the file that shares it.
    pub(crate) fn create() -> nix::Result<(Self, OwnedFd)> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(c"flyball-deadline", flags)?;
        ftruncate(&file, i64::try_from(SHARED_BYTES).unwrap_or(i64::MAX))?;
        let page = Self::map(&file)?;
        Ok((page, file))
    }

    /// Maps a page that another process made. The file is sealed first, so that nobody can take the
    /// memory away under the mapping.
    pub(crate) fn map(file: &OwnedFd) -> nix::Result<Self> {
        fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))?;
        Ok(Self(SharedMapping::new(file)?))
    }

    /// What may be done now.
    pub(crate) fn permit(&self) -> Permit {
        let words = self.0.words();
        if words.ended.load(Ordering::Acquire) != 0 {
            return Permit::Over;
        }
        match words.deadline_ms.load(Ordering::Acquire) {
            0 => Permit::None,
            // Nobody keeps the deadline then.
            _ if planted::is(Bug::ParentDeathOnly) => Permit::Until(FAR_AWAY),
            ms if ms <= boottime().0 => Permit::Over,
            ms => Permit::Until(BootInstant(ms)),
        }
    }

    /// Moves the deadline forward; an earlier one than it has changes nothing. False when it had
    /// already passed: a late answer never revives.
    pub(crate) fn extend(&self, until: BootInstant) -> bool {
        if self.permit() == Permit::Over && !planted::is(Bug::LateAnswerRevives) {
            return false;
        }
        self.0.words().deadline_ms.fetch_max(until.0, Ordering::AcqRel);
        true
    }

    /// Ends it for good.
    pub(crate) fn end(&self) {
        self.0.words().ended.store(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_moves_forward_only() {
        let (page, _file) = Page::create().unwrap();
        assert_eq!(page.permit(), Permit::None);
        let far = boottime() + Duration::from_secs(100);
        assert!(page.extend(far));
        assert!(page.extend(far - Duration::from_secs(50)));
        assert_eq!(page.permit(), Permit::Until(far));
    }

    #[test]
    fn a_passed_deadline_is_not_revived() {
        let (page, _file) = Page::create().unwrap();
        assert!(page.extend(boottime()));
        assert_eq!(page.permit(), Permit::Over);
        assert!(!page.extend(boottime() + Duration::from_secs(100)));
        assert_eq!(page.permit(), Permit::Over);
    }

    #[test]
    fn another_mapping_sees_the_same() {
        let (page, file) = Page::create().unwrap();
        let other = Page::map(&file).unwrap();
        let far = boottime() + Duration::from_secs(100);
        page.extend(far);
        assert_eq!(other.permit(), Permit::Until(far));
        other.end();
        assert!(!page.extend(far + Duration::from_secs(1)));
        assert_eq!(page.permit(), Permit::Over);
    }
}
