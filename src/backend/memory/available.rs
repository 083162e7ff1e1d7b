//! What memory this process can still get: of the machine, and of the control groups a container or a service is put into.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Bytes that this process can still get on Linux; `None` on other systems.
pub(in crate::backend) fn available() -> Option<u64> {
    let machine = of_the_machine(&read_to_string("/proc/meminfo").ok()?);
    let group = read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|groups| of_the_groups(&groups, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(group).min()
}

/// `MemAvailable`.
fn of_the_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Names of a version's files, and of the file pages in `memory.stat`, which the system takes back before it refuses memory.
struct Names {
    limit: &'static str,
    used: &'static str,
    cache: [&'static str; 2],
}

const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

const VERSION_2: Names = Names {
    limit: "memory.max",
    used: "memory.current",
    cache: ["inactive_file", "active_file"],
};

/// What the tightest of the groups in `groups` (/proc/self/cgroup) and the groups around them leaves; `None` when none has a limit.
fn of_the_groups(groups: &str, root: &Path) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            // Hierarchy, controllers, path.
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            if controllers.is_empty() {
                return of_a_branch(&VERSION_2, root, path);
            }
            let mut controllers = controllers.split(',');
            controllers.find(|&name| name == "memory")?;
            of_a_branch(&VERSION_1, &root.join("memory"), path)
        })
        .min()
}

/// The same of one group and those around it. Inside a container the path may be the host's, where only the root is found.
fn of_a_branch(names: &Names, root: &Path, path: &str) -> Option<u64> {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "..");
    let mut group = root.to_path_buf();
    let mut groups: Vec<PathBuf> = vec![group.clone()];
    for part in parts {
        group.push(part);
        groups.push(group.clone());
    }
    groups.iter().filter_map(|group| left(names, group)).min()
}

/// What one group leaves.
fn left(names: &Names, group: &Path) -> Option<u64> {
    let number =
        |name| -> Option<u64> { read_to_string(group.join(name)).ok()?.trim().parse().ok() };
    // "max" is no number, and no limit.
    let limit = number(names.limit)?;
    let used = number(names.used)?;
    let stat = read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| names.cache.contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn linux_says_what_is_available() {
        let found = of_the_machine("MemTotal:  9 kB\nMemAvailable:   17318 kB\n");
        assert_eq!(found, Some(17318 * 1024));
        assert_eq!(of_the_machine("nothing"), None);
        if cfg!(target_os = "linux") {
            assert!(available().unwrap() > 1 << 20);
        }
    }

    #[test]
    fn a_group_leaves_its_limit_less_what_is_used_but_for_file_pages() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(of_the_groups("0::/a/b\n", root), None, "no such group");
        write(
            &root.join("a/b"),
            &[
                ("memory.max", "max\n"),
                ("memory.current", "700\n"),
                ("memory.stat", "anon 5\n"),
            ],
        );
        assert_eq!(of_the_groups("0::/a/b\n", root), None, "no limit");
        write(
            &root.join("a"),
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "900\n"),
                (
                    "memory.stat",
                    "anon 5\nfile 200\ninactive_file 150\nactive_file 50\n",
                ),
            ],
        );
        assert_eq!(
            of_the_groups("0::/a/b\n", root),
            Some(300),
            "the group around"
        );
        write(&root.join("a/b"), &[("memory.max", "650\n")]);
        assert_eq!(
            of_the_groups("0::/a/b\n", root),
            Some(0),
            "more used than allowed"
        );
        assert_eq!(of_the_groups("0::/\n", root), None);
        assert_eq!(of_the_groups("no line of the kind\n\n0:\n", root), None);
    }

    #[test]
    fn groups_of_the_first_version_have_other_names() {
        let root = tempfile::tempdir().unwrap();
        write(
            &root.path().join("memory"),
            &[
                ("memory.limit_in_bytes", "5000"),
                ("memory.usage_in_bytes", "3000"),
                (
                    "memory.stat",
                    "inactive_file 7\ntotal_inactive_file 1000\ntotal_active_file 500\n",
                ),
            ],
        );
        let groups = "12:cpu,cpuacct:/docker/x\n5:hugetlb,memory:/docker/x\n";
        assert_eq!(of_the_groups(groups, root.path()), Some(3500));
        assert_eq!(of_the_groups("12:cpu:/\n", root.path()), None);
    }
}
