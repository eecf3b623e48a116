//! Which container the process runs in, found as the official clients of DogStatsD find it
//! (<https://docs.datadoghq.com/extend/dogstatsd/datagram_shell/>, protocols 1.2 and 1.4): from the names of its control groups,
//! from its mounts, or else by the number of its control group's folder.
//!
//! What is read belongs to the kernel and the container's runtime: nothing is found where it has another shape, and nothing is read
//! without a bound.

use std::{fs::File, io::Read, path::Path};

/// What tells a container apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// The name that its runtime gave it.
    Id(String),
    /// The number of its control group's folder, which an Agent that sees that folder too makes a name of.
    ControlGroup(u64),
}

impl Container {
    /// Looks for it below `root`, where the file system begins.
    pub(super) fn find(root: &Path) -> Option<Container> {
        let groups = read(&root.join(CONTROL_GROUPS)).unwrap_or_default();
        let id = groups
            .lines()
            .find_map(|line| container_at_end(group(line)?.1))
            .or_else(|| read(&root.join(MOUNTS))?.lines().find_map(container_of_mount));
        match id {
            Some(id) => Some(Container::Id(id)),
            None if is_host(root) => None,
            None => inode_of_group(&groups, root).map(Container::ControlGroup),
        }
    }
}

/// The controllers and the path of a line such as `4:memory:/docker/0123…`
/// (<https://man7.org/linux/man-pages/man7/cgroups.7.html>).
fn group(line: &str) -> Option<(&str, &str)> {
    let (number, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && !path.is_empty())
        .then_some((controllers, path))
}

/// The name that a control group's path ends with: a UUID, 64 hexadecimal digits, or 32 and a number as ECS has them.
fn container_at_end(path: &str) -> Option<String> {
    let path = path.strip_suffix(".scope").unwrap_or(path);
    if !path.is_ascii() {
        return None;
    }
    let last = |length: usize| path.len().checked_sub(length).map(|start| &path[start..]);
    if let Some(id) = last(UUID.len()).filter(|id| is_uuid(id)) {
        return Some(id.to_owned());
    }
    if let Some(id) = last(DIGITS).filter(|id| is_hexadecimal(id)) {
        return Some(id.to_owned());
    }
    let (before, number) = path.rsplit_once('-')?;
    let task = &before[before.len().checked_sub(TASK_DIGITS)?..];
    let is_task = is_hexadecimal(task) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_task.then(|| format!("{task}-{number}"))
}

/// The name in the path that `/etc/hostname` is mounted from, as in `/var/lib/docker/containers/0123…/hostname`. Of several
/// the last one is the container's; containerd's sandboxes are not containers.
fn container_of_mount(line: &str) -> Option<String> {
    let in_field = |field: &str| {
        let folders: Vec<&str> = field.split('/').collect();
        let at = (1..folders.len()).find(|at| {
            let id = folders[*at];
            !folders[at - 1].is_empty()
                && (id.len() == DIGITS && is_hexadecimal(id))
                && folders[at + 1..].join("/").contains("hostname")
        })?;
        Some((folders[at - 1].to_owned(), folders[at].to_owned()))
    };
    let (parent, id) = line.split_ascii_whitespace().rev().find_map(in_field)?;
    (parent != SANDBOXES).then_some(id)
}

/// Whether the process sees the control groups as the host does, where the number of a folder says nothing.
#[cfg(unix)]
fn is_host(root: &Path) -> bool {
    inode(&root.join(NAMESPACE)) == Some(HOST_NAMESPACE)
}

#[cfg(unix)]
fn inode_of_group(groups: &str, root: &Path) -> Option<u64> {
    // The first version's controller that is always there, and the only hierarchy of the second version.
    ["memory", ""].iter().find_map(|controller| {
        let (_, path) = groups
            .lines()
            .filter_map(group)
            .find(|(controllers, _)| controllers.split(',').any(|name| name == *controller))?;
        let folder = root
            .join(GROUP_FOLDERS)
            .join(controller)
            .join(path.trim_start_matches('/'));
        inode(&folder)
    })
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    use std::{fs, os::unix::fs::MetadataExt};
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
fn is_host(_root: &Path) -> bool {
    true
}

#[cfg(not(unix))]
fn inode_of_group(_groups: &str, _root: &Path) -> Option<u64> {
    None
}

/// As much of a file as there is any use for.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_uuid(text: &str) -> bool {
    text.len() == UUID.len()
        && text.bytes().zip(UUID.bytes()).all(|(byte, like)| match like {
            b'-' => matches!(byte, b'-' | b'_'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// The shape of a UUID; runtimes also write underscores for hyphens.
const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// The digits of a container's name.
const DIGITS: usize = 64;

/// The digits of a task's name, before the number of its container.
const TASK_DIGITS: usize = 32;

const CONTROL_GROUPS: &str = "proc/self/cgroup";
const MOUNTS: &str = "proc/self/mountinfo";
#[cfg(unix)]
const NAMESPACE: &str = "proc/self/ns/cgroup";
#[cfg(unix)]
const GROUP_FOLDERS: &str = "sys/fs/cgroup";

/// The number that Linux gives to the host's namespace of control groups (`PROC_CGROUP_INIT_INO` in its `proc_ns.h`).
#[cfg(unix)]
const HOST_NAMESPACE: u64 = 0xEFFF_FFFB;

/// Where containerd keeps the files of a pod's sandbox.
const SANDBOXES: &str = "sandboxes";

const MOST_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    /// A folder in which a file system begins, removed with it.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("tidegauge-origin-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).unwrap();
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Root(root)
        }

        fn find(&self) -> Option<Container> {
            Container::find(&self.0)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ID: &str = "8c046cb0b72cd4c99f51b5591cd5b095967f58ee003710a45280c28ee1a9c7fa";

    #[test]
    fn names_are_found_at_the_ends_of_control_groups() {
        let uuid = "34dc0b5e-626f-2c5c-4c51-70e34b10e765";
        let task = "34dc0b5e626f2c5c4c5170e34b10e765-1234567890";
        for (path, id) in [
            (format!("/docker/{ID}"), Some(ID)),
            (format!("/kubepods/besteffort/pod3d274242/{ID}"), Some(ID)),
            (format!("/system.slice/docker-{ID}.scope"), Some(ID)),
            (format!("/kubepods.slice/cri-containerd-{ID}.scope"), Some(ID)),
            (format!("/garden/{uuid}"), Some(uuid)),
            (format!("/ecs/55091c13-b8cf-4801-b527-f4601742204d/{task}"), Some(task)),
            (format!("/docker/{ID}/init.scope"), None),
            (format!("/docker/{}", ID.to_uppercase()), None),
            (format!("/docker/{}", &ID[1..]), None),
            ("/user.slice/user-1000.slice/session-1.scope".to_owned(), None),
            ("/é/34dc0b5e626f2c5c4c5170e34b10e765-".to_owned(), None),
            ("/".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(container_at_end(&path).as_deref(), id, "{path}");
        }
        let root = Root::new(
            "groups",
            &[(
                CONTROL_GROUPS,
                &format!("broken\n13:name=systemd:/\n4:memory:/docker/{ID}\n"),
            )],
        );
        assert_eq!(root.find(), Some(Container::Id(ID.to_owned())));
    }

    #[test]
    fn where_groups_have_no_names_mounts_may() {
        let mounts = format!(
            "608 554 0:42 / / rw,relatime master:289 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2\n\
             756 608 8:1 /var/lib/containerd/sandboxes/{other}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n\
             757 608 8:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n\
             758 608 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n",
            other = "f".repeat(64),
        );
        let root = Root::new("mounts", &[(CONTROL_GROUPS, "0::/\n"), (MOUNTS, &mounts)]);
        assert_eq!(root.find(), Some(Container::Id(ID.to_owned())));
    }

    #[cfg(unix)]
    #[test]
    fn else_the_number_of_the_folder_is_what_there_is() {
        let in_second = Root::new(
            "second",
            &[
                (CONTROL_GROUPS, "0::/nested/here\n"),
                ("sys/fs/cgroup/nested/here/cgroup.procs", "1"),
            ],
        );
        let number = inode(&in_second.0.join("sys/fs/cgroup/nested/here")).unwrap();
        assert_eq!(in_second.find(), Some(Container::ControlGroup(number)));

        let in_first = Root::new(
            "first",
            &[
                (CONTROL_GROUPS, "4:cpu,cpuacct:/a\n3:memory:/b\n0::/\n"),
                ("sys/fs/cgroup/memory/b/tasks", "1"),
                ("sys/fs/cgroup/cpu/a/tasks", "1"),
            ],
        );
        let number = inode(&in_first.0.join("sys/fs/cgroup/memory/b")).unwrap();
        assert_eq!(in_first.find(), Some(Container::ControlGroup(number)));
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing() {
        assert_eq!(Root::new("nothing", &[]).find(), None);
        assert_eq!(
            Root::new(
                "strange",
                &[(CONTROL_GROUPS, "\u{0}::::\n::\n0::\n"), (MOUNTS, "///\n")]
            )
            .find(),
            None
        );
    }
}
