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
{{- if not (or $target.outbound $target.inbound $target.gateway) -}}
{{- fail (printf "target %s has no connections. Set outbound, inbound or gateway" $name) -}}
{{- end -}}
{{- $outbound := $target.outbound | default dict -}}
{{- if and (ne $.Values.kind "EnvoyFilter") (or $outbound.listeners $outbound.passthrough) -}}
{{- fail (printf "target %s: outbound.listeners and outbound.passthrough need kind EnvoyFilter, because a %s reaches ports only" $name $.Values.kind) -}}
{{- end -}}
{{- range $listener := $outbound.listeners -}}
{{- if has (splitList "_" $listener | last) (toStrings $outbound.ports) -}}
{{- fail (printf "target %s: the listener %s is among outbound.ports too, so the filter would count each of its connections twice" $name $listener) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.kind "EnvoyFilter") .Values.image.pullSecret -}}
{{- fail "image.pullSecret is not for kind EnvoyFilter, because an EnvoyFilter cannot name a Secret" -}}
{{- end -}}
{{- end -}}

{{/* The filter in a chain of network filters, by the name of its module. */}}
{{- define "firstword.reference" -}}
operation: INSERT_BEFORE
value:
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
    {{- include "firstword.reference" .root | nindent 4 }}
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
