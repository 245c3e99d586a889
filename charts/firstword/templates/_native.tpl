{{/* Path of the native module in the proxies. */}}
{{- define "firstword.nativeFile" -}}
/var/lib/firstword/libfirstword.so
{{- end -}}

{{/* Name of the ConfigMap with a part of the bootstrap, in the namespace of each target. */}}
{{- define "firstword.bootstrapName" -}}
{{- include "firstword.name" . }}-native-bootstrap
{{- end -}}

{{/* Label of pods with the file. A proxy without the file would refuse the listener. */}}
{{- define "firstword.nativeLabels" -}}
firstword: native
{{- end -}}

{{/* The filter of the native module in a chain of network filters. */}}
{{- define "firstword.nativeFilter" -}}
name: {{ include "firstword.name" . }}
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter
  # The same file as in the bootstrap. A copy is another module, without metrics.
  dynamic_module_config: {module: {local: {filename: {{ include "firstword.nativeFile" . }}}}, do_not_close: true}
  filter_name: {{ include "firstword.name" . }}
  filter_config:
    "@type": type.googleapis.com/google.protobuf.StringValue
    value: {{ toJson .Values.config | quote }}
{{- end -}}

{{/* The volume with the file, in the pods. */}}
{{- define "firstword.nativeVolume" -}}
name: firstword
{{- with .Values.native.image }}
{{- if .digest }}
image:
  reference: {{ .repository }}@{{ .digest }}
{{- else }}
configMap: {name: firstword-native}
{{- end }}
{{- end }}
{{- end -}}

{{/* The patch of a Deployment whose pods are a target. Arguments: root, target. */}}
{{- define "firstword.nativePatch" -}}
spec:
  template:
    metadata:
      labels: {{ include "firstword.nativeLabels" .root | fromYaml | toJson }}
      annotations:
        sidecar.istio.io/bootstrapOverride: {{ include "firstword.bootstrapName" .root }}
        {{- if not .target.gateway }}
        sidecar.istio.io/userVolumeMount: '[{"name": "firstword", "mountPath": "/var/lib/firstword", "readOnly": true}]'
        {{- end }}
    spec:
      {{- if .target.gateway }}
      containers:
      - name: istio-proxy
        volumeMounts:
        - {name: firstword, mountPath: /var/lib/firstword, readOnly: true}
      {{- end }}
      volumes:
      - {{ include "firstword.nativeVolume" .root | nindent 8 | trim }}
{{- end -}}
