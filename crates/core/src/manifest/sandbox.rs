//! The rules of `spec.sandbox`.

use std::collections::BTreeMap;

use super::error::{FieldError, child_path};
use super::rules::{ENTRIES_MAX, Errors};
use crate::spec::SandboxSpec;

/// Most ways to the network: each takes a port and two descriptors.
const EGRESS_MAX: usize = 8;
/// Longest path, in bytes (PATH_MAX).
const PATH_BYTES_MAX: usize = 4096;

impl Errors {
    pub(super) fn sandbox(&mut self, sandbox: &SandboxSpec) {
        let base = "spec.sandbox";
        let paths = format!("{base}.readOnly");
        self.count(&paths, sandbox.read_only.len(), ENTRIES_MAX);
        for (index, path) in sandbox.read_only.iter().enumerate() {
            let plain = |path: &str| !path.split('/').skip(1).any(|s| matches!(s, "" | "." | ".."));
            if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || !plain(path) {
                let message = "must be an absolute path without empty, '.' or '..' segments";
                self.add(format!("{paths}[{index}]"), message, path);
            }
        }
        self.environment(&format!("{base}.env"), &sandbox.env);
        let lists =
            [("caches", &sandbox.caches, ENTRIES_MAX), ("egress", &sandbox.egress, EGRESS_MAX)];
        for (field, names, most) in lists {
            let path = format!("{base}.{field}");
            self.count(&path, names.len(), most);
            for (index, name) in names.iter().enumerate() {
                self.name(&format!("{path}[{index}]"), name);
            }
        }
    }

    pub(super) fn environment(&mut self, path: &str, env: &BTreeMap<String, String>) {
        self.count(path, env.len(), ENTRIES_MAX);
        for (name, value) in env {
            let path = child_path(path, name);
            self.variable(&path, name);
            if value.contains('\0') {
                self.0.push(FieldError::new(&path, "must not contain NUL characters"));
            }
        }
    }
}
