//! One container: a program with the arguments, the environment and the volumes that the Pod gives it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::environment;
use super::names;
use super::program;
use super::world::{REGISTRY, World};
use firstword_testing::namespace::Namespace;
use firstword_testing::process::{Process, read_log};
use firstword_testing::shell::native;
use firstword_testing::{root, wait_for};

/// User of Istio's images.
const ISTIO_PROXY: u64 = 1337;
/// Version of the agent, by which EnvoyFilters choose proxies. Istio's release build links it into the program.
const VERSION: &str = "1.31.0";
/// Maximum time of an init container.
const INIT: Duration = Duration::from_secs(60);

/// A running container. Dropping it kills all its processes.
pub struct Container {
    process: Process,
    log: PathBuf,
}

impl Drop for Container {
    fn drop(&mut self) {
        // Not SIGTERM, because the parent of a PID namespace ignores it.
        self.process.kill();
    }
}

/// Everything that a container needs from its Pod.
pub struct Parent<'p> {
    pub pod: &'p Value,
    pub namespace: &'p Namespace,
    /// Folder of the Pod's files.
    pub directory: &'p Path,
    /// Folders of the volumes, by their names.
    pub volumes: &'p BTreeMap<String, PathBuf>,
}

/// What an image has beside the system's programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Image {
    /// A program of Istio, which it runs as Istio's user.
    Istio(&'static str),
    /// The native module, in an image of the user's own. The container names its command.
    Copy,
}

impl Image {
    /// `None` if a container of the image is no process of its own.
    fn of(container: &Value) -> Option<Self> {
        match image_name(container["image"].as_str().expect("an image")) {
            "pilot" => Some(Self::Istio("pilot-discovery")),
            "proxyv2" => Some(Self::Istio("pilot-agent")),
            "firstword-copy" => Some(Self::Copy),
            _ => None,
        }
    }

    const fn user(self) -> u64 {
        match self {
            Self::Istio(_) => ISTIO_PROXY,
            Self::Copy => 0,
        }
    }

    /// The command of the container, without its arguments.
    fn command(self, container: &Value) -> Vec<OsString> {
        match self {
            Self::Istio(program) => vec![format!("/usr/local/bin/{program}").into()],
            Self::Copy => {
                let words = container["command"].as_array().expect("a command").iter();
                words.map(|word| word.as_str().expect("a word").into()).collect()
            }
        }
    }
}

/// `registry/PATH/NAME:TAG` -> `NAME`.
pub fn image_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name)
}

impl Container {
    /// Starts a container of the Pod. `None` if it is no process of its own.
    pub fn start(world: &World, parent: &Parent<'_>, container: &Value) -> Option<Self> {
        let image = Image::of(container)?;
        let name = container["name"].as_str().expect("a container's name");
        let user = container["securityContext"]["runAsUser"].as_u64().unwrap_or(image.user());
        let folder = parent.directory.join(format!("root-{name}"));
        std::fs::create_dir_all(&folder).expect("a root folder");
        let mounts = parent.directory.join(format!("mounts-{name}"));
        std::fs::write(&mounts, mounts_of(world, parent, container, image)).expect("a list of mounts");
        let script = root().join("tests/cluster/lab/container.sh");
        let launcher = parent.namespace.launcher(parent.directory, Path::new("unshare"), None);

        let mut arguments: Vec<OsString> =
            ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--", "sh"]
                .map(Into::into)
                .into();
        arguments.extend([script.into(), folder.into(), mounts.into(), user.to_string().into()]);
        arguments.extend(["PATH=/usr/local/bin:/usr/sbin:/usr/bin".into(), "HOME=/".into()]);
        let variables = environment::variables(parent.pod, container);
        let of_every_container = [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("ISTIO_META_ISTIO_VERSION", VERSION),
        ];
        arguments.extend(of_every_container.map(|(name, value)| format!("{name}={value}").into()));
        arguments.extend(variables.iter().map(|(name, value)| format!("{name}={value}").into()));
        arguments.extend(image.command(container));
        arguments.extend(environment::arguments(container, &variables).into_iter().map(Into::into));
        let log = parent.directory.join(format!("{name}.log"));
        Some(Self { process: Process::start(&launcher, &arguments, &log, &log), log })
    }

    /// Waits for the end of an init container, which must succeed.
    pub fn finish(mut self) {
        let status = wait_for("end of an init container", INIT, || self.process.exit_status());
        assert!(status.success(), "{}: {status}\n{}", self.log.display(), self.log());
    }

    fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Panics if the container has ended.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.process.exit_status() {
            panic!("{}: {status}\n{}", self.log.display(), self.log());
        }
    }
}

/// Lines `SOURCE TARGET` for the script: the files of the image, and the volumes, outer folders first.
fn mounts_of(world: &World, parent: &Parent<'_>, container: &Value, image: Image) -> String {
    let mut mounts = String::new();
    let mut mount = |source: &Path, target: &str| {
        writeln!(mounts, "{} {target}", source.display()).expect("text");
    };
    match image {
        Image::Istio(name) => mount(&program(name), &format!("/usr/local/bin/{name}")),
        Image::Copy => mount(&native(), "/libfirstword.so"),
    }
    if image == Image::Istio("pilot-agent") {
        let envoy = firstword_testing::envoy().canonicalize().expect("the path of Envoy");
        mount(&envoy, "/usr/local/bin/envoy");
        let template = std::fs::read_to_string(program("envoy_bootstrap.json")).expect("the template");
        // A waypoint's bootstrap has an extension that only Istio's own Envoy has.
        let template = template.replace("if .metadata_discovery", "if false");
        let path = parent.directory.join("envoy_bootstrap.json");
        std::fs::write(&path, template).expect("a template");
        mount(&path, "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json");
    }
    mount(&world.folder("credentials").join("ca.pem"), "/etc/ssl/certs/ca-certificates.crt");
    for (name, text) in etc() {
        let path = parent.directory.join(name);
        std::fs::write(&path, text).expect("a file of /etc");
        mount(&path, &format!("/etc/{name}"));
    }
    if Path::new("/etc/alternatives").is_dir() {
        mount(Path::new("/etc/alternatives"), "/etc/alternatives");
    }
    let volumes = container["volumeMounts"].as_array().into_iter().flatten();
    let mut volumes: Vec<_> = volumes
        .map(|one| {
            let name = one["name"].as_str().expect("a volume's name");
            let target = one["mountPath"].as_str().expect("a path").trim_end_matches('/');
            (target, &parent.volumes[name])
        })
        .collect();
    volumes.sort();
    for (target, source) in volumes {
        mount(source, target);
    }
    mounts
}

/// Files of `/etc`. The hosts replace the cluster's DNS. The name server knows the database outside.
fn etc() -> [(&'static str, String); 5] {
    let hosts = format!(
        "127.0.0.1 localhost\n{} istiod.istio-system.svc istiod.istio-system.svc.cluster.local\n{REGISTRY} registry.example.com\n",
        super::istio::SERVICE
    );
    [
        ("hosts", hosts),
        ("resolv.conf", names::resolv_conf()),
        ("nsswitch.conf", names::NSSWITCH.into()),
        ("passwd", "root:x:0:0::/:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n".into()),
        ("group", "root:x:0:\nistio-proxy:x:1337:\n".into()),
    ]
}
