//! `kubectl firstword`: the plugin reads a workload by istioctl or kubectl, and says first where and how.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests, too")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

/// A folder with the plugin, a kubeconfig, and programs that record their arguments.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        symlink(assert_cmd::cargo::cargo_bin("firstword"), directory.path().join("kubectl-firstword"))
            .unwrap();
        let contexts = json!({"current-context": "prod", "contexts": [
            {"name": "prod", "context": {"namespace": "shop"}}, {"name": "it's a test", "context": {}}]});
        fs::write(directory.path().join("config"), contexts.to_string()).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A program that writes its arguments, one a line, into `NAME.ran`, and then does `body`.
    fn program(&self, name: &str, body: &str) {
        let file = self.path().join(name);
        fs::write(&file, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$0.ran\"\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The arguments that a program got. `None` if it did not run.
    fn arguments(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path().join(format!("{name}.ran"))).ok()?;
        Some(text.lines().collect::<Vec<_>>().join(" "))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut plugin = Command::new(self.path().join("kubectl-firstword"));
        plugin.args(arguments).env("PATH", self.path()).env("KUBECONFIG", self.path().join("config"));
        plugin.output().unwrap()
    }
}

/// A sidecar in which a port conflict makes 10.0.0.1:3306 hang, as istioctl or pilot-agent prints it.
const PRINTS_A_CONFLICT: &str = r#"/bin/cat <<'END'
{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
  {"name": "0.0.0.0_3306", "active_state": {"listener": {
    "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "0.0.0.0_3306",
    "address": {"socket_address": {"address": "0.0.0.0", "port_value": 3306}}, "traffic_direction": "OUTBOUND",
    "listener_filters": [{"name": "envoy.filters.listener.http_inspector", "typed_config":
      {"@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}],
    "listener_filters_timeout": "0s",
    "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config":
      {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "a",
       "cluster": "a"}}]}]}}}]}]}
END"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_workload_is_read_by_istioctl_after_the_context_and_the_command_are_printed() {
    let place = Place::new();
    // What the user sees is complete before istioctl says anything.
    place.program("istioctl", &format!("echo istioctl runs >&2\n{PRINTS_A_CONFLICT}"));
    place.program("kubectl", "exit 1");
    let output = place.run(&["doctor", "deploy/app", "--dest", "10.0.0.1:3306"]);
    let (report, problems) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{problems}");
    assert!(report.contains("connections to 10.0.0.1:3306 hang"), "{report}");
    let config = place.path().join("config");
    let expected = format!(
        "context  prod (namespace shop), in {}\ncommand  istioctl --context prod --namespace shop proxy-config all deploy/app -o \
         json\nistioctl runs\n",
        config.display()
    );
    assert_eq!(problems, expected);
    let ran = place.arguments("istioctl").unwrap();
    assert_eq!(ran, "--context prod --namespace shop proxy-config all deploy/app -o json");
    assert_eq!(place.arguments("kubectl"), None);
}

#[test]
fn without_istioctl_kubectl_asks_the_proxy() {
    let place = Place::new();
    place.program("kubectl", PRINTS_A_CONFLICT);
    let output = place.run(&[
        "doctor",
        "deploy/app",
        "--dest",
        "10.0.0.1:3306",
        "-n",
        "other",
        "--context",
        "it's a test",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "context  it's a test\ncommand  kubectl --context 'it'\\''s a test' --namespace other exec deploy/app --container \
                    istio-proxy -- pilot-agent request GET 'config_dump?include_eds'\n";
    assert_eq!(text(&output.stderr), expected);
    let ran = place.arguments("kubectl").unwrap();
    assert!(ran.starts_with("--context it's a test --namespace other exec deploy/app "), "{ran}");
}

#[test]
fn a_cluster_that_cannot_be_read_is_a_problem() {
    let place = Place::new();
    let ends_with = |expected: &str| {
        let output = place.run(&["doctor", "deploy/app"]);
        let problems = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{problems}");
        assert!(problems.ends_with(expected), "{problems}");
    };
    ends_with("firstword doctor: kubectl: cannot run it: No such file or directory (os error 2)\n");
    place.program("kubectl", "echo forbidden >&2; exit 3");
    ends_with("forbidden\nfirstword doctor: kubectl failed: exit status: 3\n");
    // More than the command reads. The program waits for a reader until it is ended.
    place.program("kubectl", "exec /bin/cat /dev/zero");
    ends_with("firstword doctor: kubectl: larger than 64 MiB\n");
    place.program("kubectl", "echo no JSON, no YAML: [");
    let output = place.run(&["doctor", "deploy/app"]);
    assert!(text(&output.stderr).contains("firstword doctor: deploy/app: "), "{output:?}");
    fs::remove_file(place.path().join("config")).unwrap();
    fs::remove_file(place.path().join("kubectl.ran")).unwrap();
    ends_with("No current context of kubectl was found: set KUBECONFIG, or use --context\n");
    assert_eq!(place.arguments("kubectl"), None, "nothing runs without a context to print");
}

#[test]
fn the_help_names_the_plugin() {
    let help = text(&Place::new().run(&["doctor", "-h"]).stdout);
    assert!(help.contains("Usage: kubectl firstword doctor "), "{help}");
}
