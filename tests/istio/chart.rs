//! The Helm chart in `charts/firstword`: it makes the objects of `istio/`. [`refusals`] has what it refuses.

mod refusals;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firstword::config::json_schema;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::manifests::{annotations, assert_envoy_filter, directory, kustomized, one, resources};
use crate::pilot::resource::{Resource, of_kind, parse};
use crate::schemas::Schemas;
use firstword_testing::{root, temp_dir};

/// Files of the chart that are copies, because a chart can read only its own files, and what they are copies of.
const COPIES: [(&str, &str); 7] = [
    ("alerts.yaml", "envoy/observability/alerts.yaml"),
    ("configuration.schema.json", "docs/schemas/configuration.json"),
    ("dashboard.json", "envoy/observability/grafana/firstword.json"),
    ("native-bootstrap.yaml", "istio/native/bootstrap.yaml"),
    ("pod-annotations.yaml", "istio/components/pod-annotations/annotations.yaml"),
    ("podmonitor.yaml", "envoy/observability/podmonitor.yaml"),
    ("rules.yaml", "envoy/observability/rules.yaml"),
];

/// Values of the tests, which are the examples of each kind.
const EXAMPLES: [&str; 5] = ["envoyfilter", "everything", "native", "wasmplugin", "waypoint"];

fn chart() -> PathBuf {
    root().join("charts/firstword")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Compares a file of the chart with what it should contain. With `FIRSTWORD_BLESS` it writes the file.
fn assert_file(path: &Path, expected: &str) {
    if std::env::var_os("FIRSTWORD_BLESS").is_some() {
        std::fs::write(path, expected).expect("a file of the chart");
    }
    let test = "FIRSTWORD_BLESS=1 cargo test --test istio chart writes it";
    assert!(read(path) == expected, "{} is old; {test}", path.display());
}

#[test]
fn the_files_of_the_chart_are_copies() {
    for (copy, of) in COPIES {
        assert_file(&chart().join("files").join(copy), &read(root().join(of)));
    }
    let files = std::fs::read_dir(chart().join("files")).expect("a directory");
    let files: BTreeSet<_> = files.map(|file| file.expect("a file").file_name()).collect();
    assert!(files.iter().eq(COPIES.map(|(copy, _)| copy)), "{files:?}");
}

/// The rest of the schema is written by hand.
#[test]
fn the_schema_of_values_has_that_of_the_configuration() {
    let path = chart().join("values.schema.json");
    let mut schema: Value = serde_json::from_str(&read(&path)).expect("JSON");
    let mut configuration = json_schema::configuration();
    configuration.as_object_mut().expect("a schema").remove("$schema");
    schema["definitions"]["configuration"] = configuration;
    assert_eq!(schema["properties"]["config"], json!({"$ref": "#/definitions/configuration"}));
    assert_file(&path, &format!("{schema:#}\n"));
}

#[test]
fn the_chart_has_the_version_of_the_module() {
    let chart: Value = serde_norway::from_str(&read(chart().join("Chart.yaml"))).expect("YAML");
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

fn helm(arguments: &[&str], chart: &Path, values: &[&Path]) -> Output {
    let mut helm = Command::new(root().join("target/tools/helm"));
    helm.args(arguments).arg(chart);
    for values in values {
        helm.arg("--values").arg(values);
    }
    // A cluster of the user's must not matter.
    helm.env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap_or_else(|e| panic!("helm: {e}; run: make tools-istio"))
}

fn example(name: &str) -> PathBuf {
    chart().join(format!("ci/{name}-values.yaml"))
}

/// Output of `helm template`, or what it says against the values. `changes` are merged into the example.
fn try_template(release: &str, name: &str, changes: &Value) -> Result<Vec<Resource>, String> {
    template_of(&chart(), release, name, changes)
}

fn template_of(chart: &Path, release: &str, name: &str, changes: &Value) -> Result<Vec<Resource>, String> {
    let directory = temp_dir();
    let changed = directory.path().join("changes.json");
    std::fs::write(&changed, changes.to_string()).expect("a file");
    let arguments = ["template", release, "--namespace", "platform"];
    let output = helm(&arguments, chart, &[&example(name), &changed]);
    match output.status.success() {
        true => Ok(parse(&String::from_utf8(output.stdout).expect("UTF-8"))),
        false => Err(String::from_utf8(output.stderr).expect("UTF-8")),
    }
}

fn template(name: &str, changes: &Value) -> Vec<Resource> {
    try_template("firstword", name, changes).unwrap_or_else(|message| panic!("{name}: {message}"))
}

/// The objects of a chart or a manifest, in an order and in a form that the tool that made them does not choose.
fn normalised<'r>(resources: impl IntoIterator<Item = &'r Resource>) -> Vec<Value> {
    let one = |resource: &Resource| {
        let mut document = resource.document.clone();
        // Helm's labels, by which it finds what it has made.
        let metadata = document["metadata"].as_object_mut().expect("metadata");
        metadata.remove("labels");
        // What keeps a resource after the release.
        metadata.remove("annotations");
        let patches = document.pointer_mut("/spec/configPatches").and_then(Value::as_array_mut);
        for patch in patches.into_iter().flatten() {
            for place in CONFIGURATIONS {
                if let Some(text) = patch.pointer_mut(place) {
                    *text = serde_json::from_str(text.as_str().expect("JSON in a string")).expect("JSON");
                }
            }
        }
        document
    };
    let mut documents: Vec<_> = resources.into_iter().map(one).collect();
    documents.sort_by_key(|document| format!("{}/{}", document["kind"], document["metadata"]["name"]));
    documents
}

/// Where a patch with the wasm module has its configuration, and one with the native module.
const CONFIGURATIONS: [&str; 2] =
    ["/patch/value/typed_config/config/configuration/value", "/patch/value/typed_config/filter_config/value"];

#[test]
fn the_chart_makes_what_the_overlays_make() {
    for (values, folder) in
        [("envoyfilter", "overlays/envoyfilter"), ("wasmplugin", "overlays/example"), ("native", "native")]
    {
        let expected = kustomized(&directory().join(folder));
        let made = template(values, &json!({}));
        assert_eq!(normalised(&made), normalised(&expected), "{values}");
    }
}

/// Each resource has a manifest in `istio/` whose effect the cases show.
#[test]
fn the_chart_makes_what_the_manifests_are() {
    let made = template("everything", &json!({}));
    let files = [
        "envoyfilter/extension.yaml",
        "envoyfilter/outbound-tcp.yaml",
        "envoyfilter/outbound-passthrough.yaml",
        "envoyfilter/inbound.yaml",
        "envoyfilter/gateway.yaml",
        "scenarios/port-conflict/serviceentry.yaml",
    ];
    let expected: Vec<_> = files.iter().flat_map(|file| resources(file)).collect();
    let of_istio = made.iter().filter(|resource| is_of_istio(resource));
    assert_eq!(normalised(of_istio), normalised(&expected));
    let mut references = BTreeSet::new();
    for filter in of_kind(&made, "EnvoyFilter") {
        assert_envoy_filter(filter, &filter.name, &mut references);
    }
    assert_eq!(references.len(), 1, "{references:#?}");
}

/// The fields of a waypoint's plugin are those of the manifest too, which `make test-cluster` applies.
#[test]
fn a_waypoint_is_a_target() {
    let manifest = normalised(&resources("scenarios/waypoint/trafficextension.yaml"));
    assert_eq!(normalised(&template("waypoint", &json!({}))), manifest);
    let with = |target: Value| {
        let changes = json!({"targets": [target], "podMonitor": {"enabled": true}});
        let made = template("waypoint", &changes);
        let spec = one(&made, "TrafficExtension")["spec"].clone();
        let monitor = of_kind(&made, "PodMonitor").next().map(|monitor| monitor.spec()["selector"].clone());
        (spec, monitor)
    };
    let gateway = json!([{"kind": "Gateway", "name": "waypoint"}]);
    let (spec, monitor) = with(json!({"targetRefs": gateway, "inbound": {"ports": [3306]}}));
    assert_eq!(spec["match"], json!([{"mode": "SERVER", "ports": [{"number": 3306}]}]));
    let name =
        json!({"key": "gateway.networking.k8s.io/gateway-name", "operator": "In", "values": ["waypoint"]});
    assert_eq!(monitor, Some(json!({"matchExpressions": [name]})));

    let others = json!([{"kind": "Service", "name": "mysql"}, {"kind": "ServiceEntry", "name": "orders"}]);
    let (spec, monitor) = with(json!({"targetRefs": others}));
    assert_eq!(
        spec["targetRefs"],
        json!([
            {"group": "", "kind": "Service", "name": "mysql"},
            {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "orders"},
        ])
    );
    assert_eq!(monitor, None, "only Istio knows the pods of its waypoint");
}

/// The notes as Helm prints them. `helm template` leaves them out, so a copy of the chart has them in a resource.
fn notes(name: &str, changes: &Value) -> String {
    let copy = temp_dir();
    let status = Command::new("cp").arg("-r").arg(chart()).arg(copy.path()).status().expect("cp");
    assert!(status.success());
    let chart = copy.path().join("firstword");
    let resource = r#"{apiVersion: v1, kind: ConfigMap, metadata: {name: notes, namespace: a},
        data: {notes: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}}}"#;
    std::fs::write(chart.join("templates/notes.yaml"), resource).expect("a file");
    let made = template_of(&chart, "firstword", name, changes).expect("the notes");
    let notes = made.iter().find(|resource| resource.name == "notes").expect("the notes");
    notes.document["data"]["notes"].as_str().expect("text").to_owned()
}

/// The patches in the notes: lines that are indented after the command that applies them.
fn patches(notes: &str) -> Vec<Value> {
    let blocks = notes.split("--patch-file firstword.yaml\n\n").skip(1);
    let block = |text: &str| -> String {
        let lines = text.lines().take_while(|line| line.starts_with("     "));
        lines.map(|line| format!("{}\n", line.strip_prefix("     ").expect("indented"))).collect()
    };
    blocks.map(|text| serde_norway::from_str(&block(text)).expect("YAML")).collect()
}

#[test]
fn the_notes_print_the_patch_for_the_native_module() {
    let [deployment] = resources("native/deployment.yaml").try_into().expect("one document");
    let mut expected = deployment.document["spec"]["template"].clone();
    // The label that is there already.
    expected["metadata"]["labels"].as_object_mut().expect("labels").remove("app");
    let text = notes("native", &json!({}));
    assert!(text.contains("kubectl patch deployment NAME -n default --patch-file firstword.yaml"), "{text}");
    assert_eq!(patches(&text), [json!({"spec": {"template": expected}})], "{text}");

    // A gateway's proxy is a container of its Deployment, for which Istio reads no annotation with mounts.
    let gateway =
        json!({"name": "gateway", "labels": {"istio": "ingressgateway"}, "gateway": {"ports": [3306]}});
    let text = notes(
        "native",
        &json!({"targets": [gateway], "native": {"image": {"repository": "", "digest": ""}}}),
    );
    let [patch] = patches(&text).try_into().expect("one patch");
    let template = &patch["spec"]["template"];
    let mounts = expected["metadata"]["annotations"]["sidecar.istio.io/userVolumeMount"].as_str();
    let mounts: Value = serde_json::from_str(mounts.expect("mounts")).expect("JSON");
    assert_eq!(
        template["spec"]["containers"],
        json!([{"name": "istio-proxy", "volumeMounts": mounts}]),
        "{text}"
    );
    assert_eq!(template["metadata"]["annotations"].as_object().expect("annotations").len(), 1, "{text}");
    // Without an image, a ConfigMap that the notes say how to create.
    let volumes = json!([{"name": "firstword", "configMap": {"name": "firstword-native"}}]);
    assert_eq!(template["spec"]["volumes"], volumes, "{text}");
    assert!(text.contains("kubectl create configmap firstword-native -n NAMESPACE"), "{text}");
    assert!(text.contains("It holds 1 MiB at most"), "{text}");
}

/// Each namespace with a target has the ConfigMap, because a pod can only name one of its own namespace.
#[test]
fn the_bootstrap_of_the_native_module_is_in_each_namespace_and_stays() {
    let target = |name: &str, namespace: &str| json!({"name": name, "namespace": namespace, "labels": {"app": name}, "inbound": {"ports": [3306]}});
    let targets = json!([target("a", "shop"), target("b", "db"), target("c", "shop")]);
    let made = try_template("sql", "native", &json!({"targets": targets})).expect("resources");
    let maps: Vec<_> = of_kind(&made, "ConfigMap").collect();
    let namespaces: BTreeSet<_> = maps.iter().map(|map| map.namespace.as_str()).collect();
    assert_eq!((maps.len(), namespaces), (2, BTreeSet::from(["db", "shop"])));
    for map in maps {
        assert_eq!(map.name, "sql-firstword-native-bootstrap");
        assert_eq!(map.document["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    for filter in of_kind(&made, "EnvoyFilter") {
        // Only pods with the file, because a proxy without it refuses the listener.
        assert_eq!(filter.spec()["workloadSelector"]["labels"]["firstword"], "native");
        let value = &filter.spec()["configPatches"][0]["patch"]["value"];
        assert_eq!(value["typed_config"]["filter_name"], "sql-firstword");
    }
    let none = template("everything", &json!({"dashboard": {"enabled": false}}));
    assert_eq!(of_kind(&none, "ConfigMap").count(), 0, "the wasm module needs no bootstrap");
}

fn is_of_istio(resource: &Resource) -> bool {
    resource.document["apiVersion"].as_str().expect("a version").contains("istio.io")
}

/// Kinds of resources that an example can have.
fn kinds_of(name: &str) -> &'static [&'static str] {
    match name {
        "native" => &["EnvoyFilter"],
        "waypoint" => &["WasmPlugin", "TrafficExtension"],
        _ => &["EnvoyFilter", "WasmPlugin", "TrafficExtension"],
    }
}

#[test]
fn the_api_server_accepts_each_resource_of_the_chart() {
    let schemas = Schemas::read();
    let mut kinds = BTreeSet::new();
    for name in EXAMPLES {
        for kind in kinds_of(name) {
            let mut changes = json!({"kind": kind});
            if name == "everything" && *kind != "EnvoyFilter" {
                // A plugin reaches ports only.
                let app = json!({"labels": {"app": "app"}, "outbound": {"ports": [3306]}, "inbound": {"ports": [3306]}});
                let gateway =
                    json!({"name": "gateway", "labels": {"istio": "a"}, "gateway": {"ports": [3306]}});
                changes["targets"] = json!([app, gateway]);
                changes["image"] = json!({"pullSecret": "registry"});
            }
            for resource in template(name, &changes).iter().filter(|resource| is_of_istio(resource)) {
                kinds.insert(resource.kind.clone());
                assert_eq!(schemas.problems(resource), [""; 0], "{name}, {kind}: {}", resource.document);
            }
        }
    }
    let expected = ["EnvoyFilter", "ServiceEntry", "TrafficExtension", "WasmPlugin"];
    assert!(kinds.iter().eq(expected), "{kinds:?}");
}

/// A plugin reaches clients' ports and databases' ports by its `match`, as `istio/base` does.
#[test]
fn a_plugin_is_the_same_in_both_kinds() {
    let target = json!({
        "namespace": "default", "labels": {"app": "app"},
        "outbound": {"ports": [3306, 10000]}, "inbound": {"ports": [3306]},
    });
    let rule = json!({"name": "orders", "match": {"ports": [10000], "addresses": ["55.108.108.2"]}, "protocol": "mysql"});
    let changes = |kind: &str| json!({"kind": kind, "targets": [target], "config": {"rules": [rule]}, "serviceEntries": []});
    let plugin = template("wasmplugin", &changes("WasmPlugin"));
    assert_eq!(normalised(&plugin), normalised(&resources("base/wasmplugin.yaml")));

    let extension = template("wasmplugin", &changes("TrafficExtension"));
    let [mut extension] = normalised(&extension).try_into().expect("one document");
    let spec = extension["spec"].as_object_mut().expect("a spec");
    let Some(Value::Object(wasm)) = spec.remove("wasm") else { panic!("{spec:?}") };
    spec.extend(wasm);
    extension["kind"] = json!("WasmPlugin");
    assert_eq!(vec![extension], normalised(&plugin));
}

/// Several releases in one mesh have names of their own, and proxies ask for the module of the right one.
#[test]
fn the_name_of_the_release_is_in_each_name() {
    let made = try_template("shop", "envoyfilter", &json!({})).expect("resources");
    let mut names: Vec<_> = made.iter().map(|resource| resource.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["shop-firstword-extension", "shop-firstword-outbound-tcp"]);
    let patch = |resource: &str, path: &str| {
        let resource = made.iter().find(|made| made.name.ends_with(resource)).expect(resource);
        resource.spec()["configPatches"][0]["patch"]["value"].pointer(path).cloned()
    };
    for resource in ["extension", "outbound-tcp"] {
        assert_eq!(patch(resource, "/name"), Some(json!("istio-system.shop-firstword")), "{resource}");
    }
    // Envoy finds the filter's entry point by this name, whatever the release is.
    assert_eq!(patch("extension", "/typed_config/config/root_id"), Some(json!("firstword")));
}

#[test]
fn observability_is_that_of_envoy() {
    let made = template("everything", &json!({}));
    let [monitor] =
        parse(&read(root().join("envoy/observability/podmonitor.yaml"))).try_into().expect("one document");
    let filters: Vec<_> = of_kind(&made, "EnvoyFilter").collect();
    let monitors: Vec<_> = of_kind(&made, "PodMonitor").collect();
    assert_eq!(monitors.len(), 4);
    for made in monitors {
        assert_eq!(made.spec()["podMetricsEndpoints"], monitor.spec()["podMetricsEndpoints"]);
        let filter =
            filters.iter().find(|filter| filter.name == made.name).expect("the filter of the target");
        assert_eq!(made.namespace, filter.namespace);
        assert_eq!(made.spec()["selector"]["matchLabels"], filter.spec()["workloadSelector"]["labels"]);
    }

    let groups = |file: &str| -> Value {
        let rules: Value = serde_norway::from_str(&read(root().join(file))).expect("YAML");
        rules["groups"].clone()
    };
    let mut expected = groups("envoy/observability/rules.yaml").as_array().expect("groups").clone();
    expected.extend(groups("envoy/observability/alerts.yaml").as_array().expect("groups").clone());
    let rule = one(&made, "PrometheusRule");
    assert_eq!(rule["spec"]["groups"], json!(expected));
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");

    let dashboard = one(&made, "ConfigMap");
    assert_eq!(
        dashboard["data"]["firstword.json"],
        read(root().join("envoy/observability/grafana/firstword.json"))
    );
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");

    let without = template("envoyfilter", &json!({}));
    assert!(without.iter().all(|resource| resource.kind == "EnvoyFilter"), "{without:?}");
}

/// The policy is for our plugins only, and knows the settings of the configuration.
#[test]
fn the_admission_policy_warns_of_settings_that_the_filter_does_not_know() {
    let made = template("everything", &json!({}));
    let (policy, binding) =
        (one(&made, "ValidatingAdmissionPolicy"), one(&made, "ValidatingAdmissionPolicyBinding"));
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(binding["spec"]["validationActions"], json!(["Warn"]));
    let condition = policy["spec"]["matchConditions"][0]["expression"].as_str().expect("CEL");
    assert_eq!(condition.matches("pluginName.contains('firstword')").count(), 2, "{condition}");
    let schema = json_schema::configuration();
    let quoted = |properties: &str| {
        let properties = schema.pointer(properties).and_then(Value::as_object).expect("properties");
        let keys: Vec<_> = properties.keys().map(|key| format!("'{key}'")).collect();
        format!("key in [{}]", keys.join(","))
    };
    let validation = |at: usize| policy["spec"]["validations"][at]["expression"].as_str().expect("CEL");
    assert!(validation(0).contains(&quoted("/properties")), "{}", validation(0));
    assert!(validation(1).contains(&quoted("/properties/rules/items/properties")), "{}", validation(1));

    let denying = template("everything", &json!({"admissionPolicy": {"action": "Deny"}}));
    let denying = one(&denying, "ValidatingAdmissionPolicyBinding");
    assert_eq!(denying["spec"]["validationActions"], json!(["Deny"]));
}

/// It also renders the notes, which `helm template` leaves out.
#[test]
fn helm_finds_no_fault_in_the_chart() {
    for name in EXAMPLES {
        let output = helm(&["lint", "--strict"], &chart(), &[&example(name)]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {text}");
        assert!(text.contains("1 chart(s) linted, 0 chart(s) failed") && !text.contains("[ERROR]"), "{text}");
    }
}

/// The notes print the annotations as a user would paste them.
#[test]
fn the_notes_print_the_annotations() {
    let text = notes("envoyfilter", &json!({}));
    let (_, printed) = text.split_once("\n     proxy.istio.io/config:").expect("the annotations");
    let printed: Value =
        serde_norway::from_str(&format!("     proxy.istio.io/config:{printed}")).expect("YAML");
    assert_eq!(printed, annotations());
}

/// Digests of the two images of a release.
const DIGESTS: [(&str, char); 2] = [("IMAGE_DIGEST", '1'), ("NATIVE_DIGEST", '2')];

/// Runs a script that packs for a release. Returns the folder and the path of the archive.
fn pack(script: &str, archive: &str) -> (TempDir, PathBuf) {
    let directory = temp_dir();
    let mut command = Command::new(root().join("scripts").join(script));
    command.arg(directory.path()).env("IMAGE_REPOSITORY", "registry.example.com/ours");
    for (name, digit) in DIGESTS {
        command.env(name, digest(digit));
    }
    let output = command.output().expect(script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packed = directory.path().join(archive);
    assert!(packed.is_file(), "{}", String::from_utf8_lossy(&output.stdout));
    (directory, packed)
}

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// The release writes the digests of its images into the chart. A registry has its chart and ours alike: the same bytes.
#[test]
fn the_packed_chart_has_the_digests_and_the_same_bytes() {
    let name = format!("firstword-{}.tgz", env!("CARGO_PKG_VERSION"));
    let (first, second) = (pack("chart.sh", &name), pack("chart.sh", &name));
    assert!(std::fs::read(&first.1).expect("a chart") == std::fs::read(&second.1).expect("a chart"));

    let targets = json!({"targets": [{"labels": {"app": "app"}, "outbound": {"ports": [3306]}}]});
    let values = first.0.path().join("values.json");
    std::fs::write(&values, targets.to_string()).expect("a file");
    let output = helm(&["template", "firstword"], &first.1, &[&values]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains(&format!("oci://registry.example.com/ours@{}", digest('1'))), "{text}");

    let output = helm(&["show", "values"], &first.1, &[]);
    let values: Value = serde_norway::from_slice(&output.stdout).expect("YAML");
    let image = json!({"repository": "registry.example.com/ours-native", "digest": digest('2')});
    assert_eq!(values["native"]["image"], image);
}

/// Each image in the manifests of a release is one that the release made.
#[test]
fn the_packed_manifests_name_the_images_of_the_release() {
    let name = format!("firstword-manifests-{}", env!("CARGO_PKG_VERSION"));
    let (directory, archive) = pack("manifests.sh", &format!("{name}.tar.gz"));
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(directory.path()).status();
    assert!(tar.expect("tar").success());
    let mut grep = Command::new("grep");
    grep.args(["-rhoE", "[^ \"]*/[a-z-]+@sha256:[0-9a-f]{64}"])
        .arg(directory.path().join(name).join("istio"));
    let found = String::from_utf8(grep.output().expect("grep").stdout).expect("UTF-8");
    let found: BTreeSet<_> = found.lines().collect();
    let (wasm, native) = (digest('1'), digest('2'));
    let expected = [
        format!("oci://registry.example.com/ours@{wasm}"),
        format!("registry.example.com/ours-native@{native}"),
    ];
    assert!(found.iter().eq(&expected), "{found:#?}");
}
