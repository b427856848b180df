{{/* The beginning of the names of all objects. */}}
{{- define "axm.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "axm.etcd" -}}{{ include "axm.fullname" . }}-etcd{{- end }}
{{- define "axm.etcd.headless" -}}{{ include "axm.fullname" . }}-etcd-headless{{- end }}

{{- define "axm.clusterName" -}}
{{- .Values.clusterName | default (printf "%s-%s" .Release.Namespace .Values.alluxioRelease) }}
{{- end }}

{{- define "axm.labels" -}}
{{ include "axm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "axm.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "axm.scheme" -}}{{ if .Values.etcd.tls.enabled }}https{{ else }}http{{ end }}{{- end }}

{{/* The host of member number .i. */}}
{{- define "axm.member" -}}
{{ include "axm.etcd" .root }}-{{ .i }}.{{ include "axm.etcd.headless" .root }}.{{ .root.Release.Namespace }}.svc.cluster.local
{{- end }}

{{/* The URLs of all members, separated by commas: the library prefers each of them to a name for all. */}}
{{- define "axm.endpoints" -}}
{{- if .Values.etcd.enabled -}}
{{- $urls := list }}
{{- range $i := until (int .Values.etcd.replicaCount) }}
{{- $urls = append $urls (printf "%s://%s:2379" (include "axm.scheme" $) (include "axm.member" (dict "root" $ "i" $i))) }}
{{- end }}
{{- join "," $urls }}
{{- else -}}
{{- join "," .Values.etcd.externalEndpoints | required "etcd.externalEndpoints is needed where etcd.enabled is false" }}
{{- end -}}
{{- end }}

{{/* The properties of the membership, as a map. */}}
{{- define "axm.properties" -}}
alluxio.worker.membership.manager.type: ETCD
alluxio.etcd.endpoints: {{ include "axm.endpoints" . }}
alluxio.cluster.name: {{ include "axm.clusterName" . }}
alluxio.k8s.env.deployment: "true"
{{- if .Values.etcd.tls.enabled }}
alluxio.etcd.tls.enabled: "true"
alluxio.etcd.tls.ca.cert: /etc/alluxio-membership/tls/ca.crt
alluxio.etcd.tls.client.cert: /etc/alluxio-membership/tls/tls.crt
alluxio.etcd.tls.client.key: /etc/alluxio-membership/tls/tls.key
{{- end }}
{{- end }}

{{- define "axm.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "axm.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "axm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
