//! What is written into the group of a step's command, and what the kernel says there when it was too much.

use flyball_core::bounds::Controllers;

use crate::confine::Limits;

/// Microseconds of `cpu.max`'s period: the kernel's default, short enough that nobody notices the pauses.
const CPU_PERIOD_US: u64 = 100_000;
/// Least that the kernel takes as a quota (1 ms, CFS bandwidth control).
const CPU_QUOTA_US_MIN: u64 = 1_000;

/// One file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether the bound holds without it: some kernels have no such file.
    pub(super) optional: bool,
}

/// The files that hold `limits`, as far as there are controllers. Those that are not bounded are left as they are.
pub(super) fn settings(limits: &Limits, controllers: Controllers) -> Vec<Setting> {
    let must = |file, value: String| Setting { file, value, optional: false };
    let mut settings = Vec::new();
    if let (true, Some(bytes)) = (controllers.memory, limits.memory_bytes) {
        // All or nothing: half of a build that goes on would tell nonsense. Before the bound, which may act at once.
        settings.push(must("memory.oom.group", "1".to_owned()));
        settings.push(must("memory.max", bytes.to_string()));
        // Without swap, or its accounting, there is no such file.
        let (file, value) = ("memory.swap.max", "0".to_owned());
        settings.push(Setting { file, value, optional: true });
    }
    if let (true, Some(processes)) = (controllers.processes, limits.processes) {
        settings.push(must("pids.max", processes.to_string()));
    }
    if let (true, Some(millis)) = (controllers.processors, limits.cpu_millis) {
        let quota = millis.saturating_mul(CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN);
        settings.push(must("cpu.max", format!("{quota} {CPU_PERIOD_US}")));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_bounded_and_can_be_held_is_written() {
        let limits = Limits {
            memory_bytes: Some(1 << 20),
            processes: Some(64),
            cpu_millis: Some(1500),
            ..Limits::default()
        };
        let written = |controllers| {
            let settings = settings(&limits, controllers);
            let lines = settings.iter().map(|one| format!("{}={}", one.file, one.value));
            lines.collect::<Vec<_>>().join(" ")
        };
        let all = Controllers { memory: true, processes: true, processors: true };
        assert_eq!(
            written(all),
            "memory.oom.group=1 memory.max=1048576 memory.swap.max=0 pids.max=64 \
             cpu.max=150000 100000"
        );
        assert_eq!(
            written(Controllers { processes: true, ..Controllers::default() }),
            "pids.max=64"
        );
        assert_eq!(settings(&Limits::default(), all), []);
        let little = Limits { cpu_millis: Some(1), ..Limits::default() };
        assert_eq!(settings(&little, all)[0].value, "1000 100000");
    }
}
