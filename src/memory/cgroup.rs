//! Memory limits of control groups, version 2 and 1: those of the process's own group and of all
//! groups around it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Usage;

/// A control group that counts memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    directory: PathBuf,
    names: &'static Names,
}

/// How a version of control groups names its files.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with cached file content that the kernel gives up first.
    reclaimable: &'static str,
}

const VERSION_2: Names =
    Names { limit: "memory.max", used: "memory.current", reclaimable: "inactive_file" };
const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

impl Group {
    /// The groups of this process that count memory, the innermost first; none where there are no
    /// control groups.
    pub(super) fn of_this_process() -> Vec<Self> {
        let read = |name| fs::read_to_string(Path::new("/proc/self").join(name));
        match (read("cgroup"), read("mountinfo")) {
            (Ok(groups), Ok(mounts)) => groups_in(&groups, &mounts),
            _ => Vec::new(),
        }
    }

    /// What the group uses of its limit; `None` when it has none.
    ///
    /// Cached file content counts as free, as far as the kernel would give it up at once; it is
    /// looked at only when it matters.
    ///
    /// # Errors
    /// When a file of the group is there and cannot be read.
    pub(super) fn usage(&self) -> io::Result<Option<Usage>> {
        let limit = self.number(self.names.limit)?.filter(|limit| *limit < UNLIMITED_BYTES);
        let Some(limit_bytes) = limit else { return Ok(None) };
        let Some(used_bytes) = self.number(self.names.used)? else { return Ok(None) };
        let usage = Usage { used_bytes, limit_bytes };
        if !usage.reaches(WORTH_A_LOOK_PERCENT) {
            return Ok(Some(usage));
        }
        let stat = fs::read_to_string(self.directory.join("memory.stat")).unwrap_or_default();
        let reclaimable_bytes = line_value(&stat, self.names.reclaimable).unwrap_or(0);
        let used_bytes = used_bytes.saturating_sub(reclaimable_bytes);
        Ok(Some(Usage { used_bytes, limit_bytes }))
    }

    /// A file's number; `None` for a file that has none or is not there, as in the root group.
    fn number(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::read_to_string(self.directory.join(name)) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The groups that `/proc/self/cgroup` and `/proc/self/mountinfo` tell of; see cgroups(7).
fn groups_in(groups: &str, mounts: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let names = match controllers {
            "" => &VERSION_2,
            _ if controllers.split(',').any(|name| name == "memory") => &VERSION_1,
            _ => continue,
        };
        let Some(mount) = mounts.lines().find_map(|line| Mount::parse(line, names)) else {
            continue;
        };
        found.extend(mount.directories(path).map(|directory| Group { directory, names }));
    }
    found
}

/// Where a hierarchy of groups is mounted.
struct Mount<'a> {
    /// The group that is mounted, `/` for all of them.
    root: &'a Path,
    point: &'a Path,
}

impl<'a> Mount<'a> {
    /// A line of mountinfo, if it mounts the hierarchy that counts memory in this version; see
    /// proc_pid_mountinfo(5).
    fn parse(line: &'a str, names: &Names) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        let options = file_system.clone().next_back()?.split(',');
        let counts_memory = match file_system.next()? {
            "cgroup2" => *names == VERSION_2,
            "cgroup" => *names == VERSION_1 && options.into_iter().any(|name| name == "memory"),
            _ => false,
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        counts_memory.then(|| Self { root: Path::new(root), point: Path::new(point) })
    }

    /// The directories of the group at `path` and of those around it, as far as they are mounted.
    fn directories(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        let path = Path::new(path);
        let below = path.strip_prefix(self.root).or_else(|_| path.strip_prefix("/"));
        let innermost = self.point.join(below.unwrap_or(Path::new("")));
        let outermost = self.point.to_owned();
        let directories: Vec<_> = innermost
            .ancestors()
            .take_while(|directory| directory.starts_with(&outermost))
            .map(Path::to_owned)
            .collect();
        directories.into_iter()
    }
}

fn line_value(text: &str, name: &str) -> Option<u64> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

/// From here on a limit is none: version 1 writes the largest number of whole pages for it.
const UNLIMITED_BYTES: u64 = 1 << 60;
/// Below this part of the limit it does not matter how much is cached.
const WORTH_A_LOOK_PERCENT: u64 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(groups: &str, mounts: &str) -> Vec<String> {
        let shown = |group: Group| {
            format!("{} {}", group.directory.join(group.names.limit).display(), group.names.used)
        };
        groups_in(groups, mounts).into_iter().map(shown).collect()
    }

    #[test]
    fn version_2_from_the_innermost_group_to_the_mount() {
        let mounts = "24 1 0:21 / /proc rw - proc proc rw\n\
            30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = directories("0::/system.slice/ringwire.service\n", mounts);
        let expected = ["/system.slice/ringwire.service", "/system.slice", ""];
        let expected =
            expected.map(|path| format!("/sys/fs/cgroup{path}/memory.max memory.current"));
        assert_eq!(found, expected);
    }

    #[test]
    fn version_1_where_the_memory_controller_is_mounted() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let found = directories("4:memory:/a\n1:cpu:/b\n0::/\n", mounts);
        let expected = ["/a", ""].map(|path| {
            format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes memory.usage_in_bytes")
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_mount() {
        let mounts = "35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = directories("4:memory:/docker/x/y\n", mounts);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("/sys/fs/cgroup/memory/y/memory.limit"), "{found:?}");
        assert!(found[1].starts_with("/sys/fs/cgroup/memory/memory.limit"), "{found:?}");
    }

    #[test]
    fn what_cannot_be_understood_is_no_group() {
        for (groups, mounts) in [
            ("", ""),
            ("0::/\n", "nonsense\n - \n"),
            ("4:memory", "35 31 0:32 / /m rw - cgroup cgroup rw,memory"),
            ("4:memory:/", "35 31 0:32 / /m rw - cgroup cgroup rw,cpu"),
        ] {
            assert_eq!(directories(groups, mounts), Vec::<String>::new(), "{groups} {mounts}");
        }
    }

    #[test]
    fn a_groups_usage_leaves_out_what_is_cached_once_it_matters() {
        let directory = std::env::temp_dir().join(format!("ringwire-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("a file");
        let group = Group { directory: directory.clone(), names: &VERSION_2 };
        let usage = || group.usage().expect("files that can be read");
        assert_eq!(usage(), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        write("memory.stat", "anon 1\ninactive_file 100\nactive_file 7\n");
        assert_eq!(usage(), None);
        write("memory.max", "1000\n");
        assert_eq!(usage(), Some(Usage { used_bytes: 700, limit_bytes: 1000 }));
        write("memory.current", "900\n");
        assert_eq!(usage(), Some(Usage { used_bytes: 800, limit_bytes: 1000 }));
        write("memory.max", "9223372036854771712\n");
        assert_eq!(usage(), None);
        fs::remove_file(directory.join("memory.max")).expect("ours");
        fs::create_dir(directory.join("memory.max")).expect("a directory");
        assert!(group.usage().is_err(), "what cannot be read is not no limit");
        fs::remove_dir_all(&directory).expect("ours");
    }
}
