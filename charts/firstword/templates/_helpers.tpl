{{/* Name of the release. It always contains firstword, by which "firstword doctor" finds the filter. */}}
{{- define "firstword.name" -}}
{{- if contains "firstword" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-firstword" (.Release.Name | trunc 30) -}}
{{- end -}}
{{- end -}}

{{/* Name of a target's resource. Arguments: root, target. */}}
{{- define "firstword.targetName" -}}
{{- if .target.name -}}
{{- printf "%s-%s" (include "firstword.name" .root) .target.name -}}
{{- else -}}
{{- include "firstword.name" .root -}}
{{- end -}}
{{- end -}}

{{/* Name by which listeners ask for the module. */}}
{{- define "firstword.extensionName" -}}
{{- printf "%s.%s" .Values.extension.namespace (include "firstword.name" .) -}}
{{- end -}}

{{- define "firstword.labels" -}}
app.kubernetes.io/name: firstword
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* Selector of a target's pods. Empty if only Istio knows them. Argument: the target. */}}
{{- define "firstword.pods" -}}
{{- $gateways := list -}}
{{- range .targetRefs -}}
{{- if eq .kind "Gateway" -}}
{{- $gateways = append $gateways .name -}}
{{- end -}}
{{- end -}}
{{- if .labels -}}
matchLabels: {{ toJson .labels }}
{{- else if $gateways -}}
matchExpressions:
- {key: gateway.networking.k8s.io/gateway-name, operator: In, values: {{ toJson $gateways }}}
{{- end -}}
{{- end -}}

{{/* URL of the image. It has no tag, because a tag can be moved to another image. */}}
{{- define "firstword.image" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is empty. Push the image of the release (dist/oci/image) to your registry, and set its name without a tag, as in registry.example.com/firstword" -}}
{{- end -}}
{{- if not .Values.image.digest -}}
{{- fail "image.digest is empty. Set the digest of the image's manifest: sha256: and 64 hexadecimal digits. A tag is not accepted, because it can be moved to another image" -}}
{{- end -}}
{{- printf "oci://%s@%s" .Values.image.repository .Values.image.digest -}}
{{- end -}}

{{/* Fails on values that a schema cannot refuse. */}}
{{- define "firstword.check" -}}
{{- include "firstword.checkModule" . -}}
{{- if not .Values.targets -}}
{{- fail "targets is empty. List the pods whose connections pass through the filter" -}}
{{- end -}}
{{- $names := list -}}
{{- range $target := .Values.targets -}}
{{- $name := printf "%s/%s" ($target.namespace | default $.Release.Namespace) (include "firstword.targetName" (dict "root" $ "target" $target)) -}}
{{- if has $name $names -}}
{{- fail (printf "two targets are named %s. Give each a name of its own" $name) -}}
{{- end -}}
{{- $names = append $names $name -}}
{{- include "firstword.checkTarget" (dict "root" $ "target" $target "name" $name) -}}
{{- end -}}
{{- end -}}

{{/* Fails on a module that the kind or the version of Istio cannot load. */}}
{{- define "firstword.checkModule" -}}
{{- if and (eq .Values.kind "EnvoyFilter") .Values.image.pullSecret -}}
{{- fail "image.pullSecret is not for kind EnvoyFilter, because an EnvoyFilter cannot name a Secret" -}}
{{- end -}}
{{- $version := .Values.istioVersion -}}
{{- if eq .Values.module "native" -}}
{{- if ne .Values.kind "EnvoyFilter" -}}
{{- fail (printf "module native needs kind EnvoyFilter, because a %s loads wasm only" .Values.kind) -}}
{{- end -}}
{{- if not $version -}}
{{- fail "istioVersion is empty. Set it, because the native module needs Istio 1.31 or newer, and an older proxy does not start with it" -}}
{{- end -}}
{{- if semverCompare "<1.31.0" $version -}}
{{- fail (printf "the native module needs Istio 1.31 or newer, and istioVersion is %s. Set module: wasm" $version) -}}
{{- end -}}
{{- if ne (not .Values.native.image.repository) (not .Values.native.image.digest) -}}
{{- fail "native.image has only one of repository and digest. Set both, or none for a ConfigMap" -}}
{{- end -}}
{{- else if .Values.config.rules -}}
{{- range .Values.config.rules -}}
{{- if .tls -}}
{{- fail "config has a rule with tls, which the wasm module refuses. Set module: native" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $version -}}
{{- if semverCompare "<1.25.0" $version -}}
{{- fail (printf "the filter needs Istio 1.25 or newer, and istioVersion is %s" $version) -}}
{{- end -}}
{{- if and (eq .Values.kind "TrafficExtension") (semverCompare "<1.30.0" $version) -}}
{{- fail (printf "kind TrafficExtension needs Istio 1.30 or newer, and istioVersion is %s. Set kind: WasmPlugin" $version) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails on a target that the kind cannot reach. Arguments: root, target, its name. */}}
{{- define "firstword.checkTarget" -}}
{{- $target := .target -}}
{{- $kind := .root.Values.kind -}}
{{- if eq (empty $target.labels) (empty $target.targetRefs) -}}
{{- fail (printf "target %s: set labels, of the pods, or targetRefs, of a waypoint or gateway, and not both" .name) -}}
{{- end -}}
{{- if not (or $target.targetRefs $target.outbound $target.inbound $target.gateway) -}}
{{- fail (printf "target %s has no connections. Set outbound, inbound or gateway" .name) -}}
{{- end -}}
{{- $outbound := $target.outbound | default dict -}}
{{- if and $target.targetRefs (eq $kind "EnvoyFilter") -}}
{{- fail (printf "target %s: targetRefs need kind TrafficExtension or WasmPlugin, because Istio supports no EnvoyFilter in a waypoint" .name) -}}
{{- end -}}
{{- if and $target.targetRefs $target.outbound -}}
{{- fail (printf "target %s: outbound is for pods with a sidecar. With targetRefs set inbound for a waypoint, or gateway for a gateway" .name) -}}
{{- end -}}
{{- if and (ne $kind "EnvoyFilter") (or $outbound.listeners $outbound.passthrough) -}}
{{- fail (printf "target %s: outbound.listeners and outbound.passthrough need kind EnvoyFilter, because a %s reaches ports only" .name $kind) -}}
{{- end -}}
{{- range $listener := $outbound.listeners -}}
{{- if has (splitList "_" $listener | last) (toStrings $outbound.ports) -}}
{{- fail (printf "target %s: the listener %s is among outbound.ports too, so the filter would count each of its connections twice" $.name $listener) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the proxies of a WasmPlugin or a TrafficExtension. Argument: the target. */}}
{{- define "firstword.selection" -}}
{{- if .labels -}}
selector:
  matchLabels: {{ toJson .labels }}
{{- else -}}
targetRefs:
{{- $groups := dict "Gateway" "gateway.networking.k8s.io" "Service" "" "ServiceEntry" "networking.istio.io" }}
{{- range .targetRefs }}
- {group: {{ get $groups .kind | quote }}, kind: {{ .kind }}, name: {{ .name }}}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The filter of the wasm module in a chain of network filters, by the name of its module. */}}
{{- define "firstword.reference" -}}
name: {{ include "firstword.extensionName" . }}
config_discovery:
  config_source: {ads: {}, initial_fetch_timeout: 0s}
  # In force while there is no module: RBAC without rules allows every connection.
  default_config:
    "@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC
    stat_prefix: firstword_missing.
  apply_default_config_without_warming: true
  type_urls:
  - type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
  - type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC
{{- end -}}

{{/* One patch. Arguments: root, context, listener. */}}
{{- define "firstword.patch" -}}
- applyTo: NETWORK_FILTER
  match:
    context: {{ .context }}
    listener: {{ toJson .listener }}
  patch:
    operation: INSERT_BEFORE
    value:
      {{- $filter := ternary "firstword.nativeFilter" "firstword.reference" (eq .root.Values.module "native") }}
      {{- include $filter .root | nindent 6 }}
{{- end -}}

{{/* The ports that a WasmPlugin or a TrafficExtension reaches. Argument: the target. */}}
{{- define "firstword.match" -}}
{{- range $ports := list .outbound .gateway }}
{{- with $ports }}
- mode: CLIENT
  ports:
  {{- range .ports }}
  - number: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
{{- with .inbound }}
- mode: SERVER
  ports:
  {{- range .ports }}
  - number: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What a WasmPlugin has in its spec, and a TrafficExtension in spec.wasm. */}}
{{- define "firstword.plugin" -}}
# Without this line Istio loads the plugin as an HTTP filter.
type: NETWORK
url: {{ include "firstword.image" . }}
pluginName: {{ include "firstword.name" . }}
# If the agent cannot fetch the module, traffic passes.
failStrategy: FAIL_OPEN
{{- with .Values.image.pullSecret }}
imagePullSecret: {{ . }}
{{- end }}
pluginConfig: {{ toJson .Values.config }}
{{- end -}}
