//! What is not MySQL is none of the filter's: in front of an HTTP connection manager, as Istio's WasmPlugin puts it there too,
//! HTTP/1.1, HTTP/2, TLS and gRPC go as they go without it, and it counts that it saw them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::{MYSQL, filters, listeners, plugin, shipped, soon};
use crate::ledger::{Ledger, several_ticks};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::closed_address;
use firstword_testing::process::{Process, in_path, read_log};
use firstword_testing::{built, temp_dir, wait_for};

const BIG: usize = 16 << 20;
const STREAMS: usize = 200;

/// One of the servers beside this file, on the port it tells.
struct Script {
    address: SocketAddr,
    _process: Process,
    _files: TempDir,
}

fn python() -> PathBuf {
    built("FIRSTWORD_PYTHON", "target/tools/venv/bin/python", "make tools-servers")
}

fn script(name: &str) -> PathBuf {
    firstword_testing::root().join("tests/envoy/inert").join(name)
}

impl Script {
    fn start(name: &str) -> Self {
        let files = temp_dir();
        let (out, log) = (files.path().join("out"), files.path().join("log"));
        let mut process = Process::start(&python(), &[script(name).into()], &out, &log);
        let port = wait_for("port of a server", Duration::from_secs(30), || {
            assert!(process.exit_status().is_none(), "{name}: {}", read_log(&log));
            let text = read_log(&out);
            text.ends_with('\n').then(|| text.trim().parse().expect("a port"))
        });
        Self { address: firstword_testing::loopback(port), _process: process, _files: files }
    }
}

/// Runs a program that must succeed; what it prints.
fn run(program: &Path, arguments: &[OsString]) -> Vec<u8> {
    let mut command = Command::new(program);
    // A proxy of the environment's is not for loopback.
    let output = command.args(arguments).env("no_proxy", "*").output().expect("a program in PATH");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn connection_manager(name: &str) -> Value {
    let to = |cluster: &str| json!({"cluster": cluster, "timeout": "0s"});
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/", "grpc": {}}, "route": to("grpc")},
                {"match": {"prefix": "/"}, "route": to("web")},
            ]}]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }],
        },
    })
}

fn tcp_proxy(name: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": "tls",
        },
    })
}

/// TLS with a certificate made now.
pub fn tls(directory: &Path) -> Value {
    let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
    let mut arguments: Vec<OsString> =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
            .split(' ')
            .map(Into::into)
            .collect();
    arguments.extend(["-keyout".into(), key.clone().into(), "-out".into(), certificate.clone().into()]);
    run(&in_path("openssl").expect("openssl in PATH"), &arguments);
    let pair = json!({"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}});
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]},
        },
    })
}

/// Listeners `http`, `https` and `passthrough`, each once with the filter and once, `-plain`, without; the last goes on to
/// an HTTPS listener that has no filter and no port.
fn envoy(directory: &Path, web: SocketAddr, grpc: SocketAddr) -> Envoy {
    let tls = tls(directory);
    let socket = json!({"pipe": {"path": directory.join("tls.sock")}});
    let options = shipped(closed_address()).edit(|bootstrap| {
        let mut listener = listeners(bootstrap).remove(0);
        plugin(&mut listener)["configuration"]["value"] = json!(soon(json!({})).to_string());
        let mut add = |name: &str, filtered: bool, last: Value, tls: Option<&Value>| {
            let mut listener = listener.clone();
            listener["name"] = json!(name);
            let filters = filters(&mut listener);
            filters.truncate(usize::from(filtered));
            filters.push(last);
            listener["filter_chains"][0]["transport_socket"] = json!(tls);
            listeners(bootstrap).push(listener);
        };
        for (suffix, filtered) in [("", true), ("-plain", false)] {
            let name = |kind: &str| format!("{kind}{suffix}");
            add(&name("http"), filtered, connection_manager(&name("http")), None);
            add(&name("https"), filtered, connection_manager(&name("https")), Some(&tls));
            add(&name("passthrough"), filtered, tcp_proxy(&name("passthrough")), None);
        }
        add("behind", false, connection_manager("behind"), Some(&tls));
        listeners(bootstrap).last_mut().expect("a listener")["address"] = socket.clone();

        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
        for name in ["web", "grpc", "tls"] {
            let mut cluster = clusters[0].clone();
            cluster["name"] = json!(name);
            cluster["load_assignment"]["cluster_name"] = json!(name);
            if name == "grpc" {
                cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = json!({
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                });
            }
            if name == "tls" {
                cluster["type"] = json!("STATIC");
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = socket.clone();
            }
            clusters.push(cluster);
        }
    });
    Envoy::start(options.upstream("web", web).upstream("grpc", grpc))
}

/// What a client got: headers and bodies, without what differs from one answer to the next of the same server.
fn curl(directory: &Path, url: &str, options: &str, paths: &[&str]) -> Vec<Vec<u8>> {
    let got = directory.join("got");
    std::fs::create_dir(&got).expect("a directory");
    let mut arguments: Vec<OsString> =
        ["--silent", "--show-error", "--fail", "--insecure", "--max-time", "60"].map(Into::into).into();
    arguments.extend(
        options
            .split_whitespace()
            .map(|option| option.replace("BIG", directory.join("big").to_str().expect("UTF-8")).into()),
    );
    for (index, path) in paths.iter().enumerate() {
        arguments.extend([
            format!("{url}{path}").into(),
            "--output".into(),
            got.join(format!("{index}-#1")).into(),
        ]);
    }
    arguments.extend(["--dump-header".into(), got.join("headers").into()]);
    run(&in_path("curl").expect("curl in PATH"), &arguments);
    let mut files: Vec<_> =
        std::fs::read_dir(&got).expect("files").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let contents = files.iter().map(|file| {
        let bytes = std::fs::read(file).expect("a file");
        if file.ends_with("headers") { of_content(&bytes) } else { bytes }
    });
    let contents = contents.collect();
    std::fs::remove_dir_all(got).expect("a directory");
    contents
}

/// Headers in order of their text: streams end in any order.
fn of_content(headers: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(headers);
    let differs =
        |line: &&str| line.starts_with("date: ") || line.starts_with("x-envoy-upstream-service-time: ");
    let mut lines: Vec<_> = text.lines().filter(|line| !differs(line)).collect();
    lines.sort_unstable();
    lines.join("\n").into_bytes()
}

struct Bench<'e> {
    envoy: &'e Envoy,
    ledger: Ledger<'e>,
}

impl Bench<'_> {
    /// `client` gets the same from both listeners, and the filter has counted what Envoy has.
    fn compare<T: PartialEq>(&mut self, listener: &str, seen: &str, client: impl Fn(SocketAddr) -> T) -> T {
        let envoy = self.envoy;
        let tunnelled = listener == "passthrough";
        let (kind, destination) = if tunnelled { ("tcp", "tls") } else { ("http", "passthrough") };
        let stat = |name: &str, what: &str| envoy.stat(&format!(r"^{kind}\.{name}\.downstream_cx_{what}$"));
        let over = |name: &str| {
            let none = || (stat(name, "active") == 0).then_some(());
            wait_for("end of connections", Duration::from_secs(20), none);
            several_ticks(envoy);
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ours = |metric: &str, label| {
            let labels = [label, ("destination", destination)];
            envoy.metric(&format!("firstword_{metric}"), &labels).unwrap_or_default() as u64
        };
        let counters = || {
            [
                stat(listener, "total"),
                stat(listener, "rx_bytes_total"),
                stat(listener, "tx_bytes_total"),
                envoy.stat(r"^cluster\.tls\.upstream_cx_rx_bytes_total$"),
                ours("bytes_total", ("sender", "server")),
                ours("connections_closed_total", ("by", "server")),
            ]
        };

        let plain_name = format!("{listener}-plain");
        let plain = client(envoy.listener_addr(&plain_name));
        over(&plain_name);
        let before = counters();
        let filtered = client(envoy.listener_addr(listener));
        assert!(plain == filtered, "{listener}: other bytes with the filter");
        over(listener);
        let after = counters();
        let [connections, received, mut sent, upstream, passed, by_server] =
            std::array::from_fn(|index| after[index] - before[index]);
        assert!(connections > 0);
        if tunnelled {
            // A client of TLS goes without reading the server's last words. Those that the filter saw may be fewer than
            // the server sent, and more than the client was sent.
            assert!((sent..=upstream).contains(&passed), "{sent} <= {passed} <= {upstream}");
            sent = passed;
            // And the server ends its stream as soon as the client says in TLS that it has ended: either may be first.
            assert!(by_server <= connections);
        } else {
            assert_eq!(by_server, 0);
        }
        let labels = format!("destination={destination},direction=unspecified");
        self.ledger.expect(&format!(
            "connections_total{{{labels},protocol=client_first}} {connections}
             client_first_total{{{labels},seen={seen}}} {connections}
             opaque_total{{{labels},reason=not_mysql}} {connections}
             connections_closed_total{{by=client,{labels},phase=opaque}} {}
             connections_closed_total{{by=server,{labels},phase=opaque}} {by_server}
             bytes_total{{{labels},sender=client}} {received}
             bytes_total{{{labels},sender=server}} {sent}",
            connections - by_server
        ));
        filtered
    }
}

#[test]
fn http_tls_and_grpc_go_as_without_it() {
    let directory = temp_dir();
    let directory = directory.path();
    std::fs::write(directory.join("big"), vec![7; BIG]).expect("a file");
    let (web, grpc) = (Script::start("http_server.py"), Script::start("grpc_server.py"));
    let envoy = envoy(directory, web.address, grpc.address);
    // Labels in full: of two destinations neither is the usual one.
    let ledger = Ledger::with_labels(&envoy, &[("destination", MYSQL)]);
    let mut bench = Bench { envoy: &envoy, ledger };

    let streams = format!("/bytes/[1-{STREAMS}]");
    let in_turn = ["/bytes/0", "/bytes/1", "/bytes/100000", &format!("/bytes/{BIG}")];
    let cases = [
        ("http", "http", "--http1.1"),
        ("http", "http", "--http2-prior-knowledge"),
        ("https", "http", "--http1.1"),
        ("https", "http", "--http2"),
        ("passthrough", "tls", "--http1.1"),
        ("passthrough", "tls", "--http2"),
    ];
    for (listener, seen, version) in cases {
        let scheme = if listener == "http" { "http" } else { "https" };
        let mut get = |options: &str, paths: &[&str]| {
            println!("{listener} {version} {options}");
            let options = format!("{version} {options}");
            let files = bench.compare(listener, seen, |address| {
                curl(directory, &format!("{scheme}://{address}"), &options, paths)
            });
            // Without the headers.
            files[..files.len() - 1].iter().map(Vec::len).sum::<usize>()
        };
        assert_eq!(get("", &["/bytes/0"]), 0);
        assert_eq!(get("--data-binary @BIG", &["/echo"]), BIG);
        // curl 7.88 cannot use a connection again that began with HTTP/2 in the clear; gRPC does it below.
        if version != "--http2-prior-knowledge" {
            assert_eq!(get("", &in_turn), 1 + 100_000 + BIG);
            assert_eq!(get("--parallel --parallel-max 100", &[&streams]), STREAMS * (STREAMS + 1) / 2);
        }
    }

    let told = bench.compare("http", "http", |address| {
        run(&python(), &[script("grpc_client.py").into(), address.to_string().into()])
    });
    assert_eq!(
        String::from_utf8_lossy(&told),
        "StatusCode.FAILED_PRECONDITION as asked for [('cause', 'asked-for')]\n\
         4 messages, 1000 calls at once, 200 in a stream\n"
            .replace("[('cause', 'asked-for')]", "[_Metadatum(key='cause', value='asked-for')]")
    );
    bench.ledger.finish();
}
