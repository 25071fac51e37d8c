{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* Labels that select the Pods of a component: (list . "agent"). */ -}}
{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* Labels of a component's objects: (list . "agent"). */ -}}
{{- define "fairlead.labels" -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end }}

{{- define "fairlead.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- /* What every container starts from. */ -}}
{{- define "fairlead.container" -}}
image: {{ include "fairlead.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- /* Rights of a container that needs none, and is nobody. */ -}}
{{- define "fairlead.unprivileged" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsGroup: 65532
  runAsNonRoot: true
  runAsUser: 65532
{{- end }}

{{- /* Rights of a container that loads programs: user 0, who owns the pins, with few capabilities. */ -}}
{{- define "fairlead.datapath" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
    add:
    {{- $all := .Files.Get "files/capabilities.yaml" | fromYaml }}
    {{- $add := index $all .Values.agent.datapath }}
    {{- with .Values.agent.announce }}
    {{- if .enabled }}
    {{- $add = concat $add $all.announce }}
    {{- if and .bgpPort (lt (int .bgpPort) 1024) }}
    {{- $add = concat $add $all.bgpPort }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- $add | uniq | sortAlpha | toYaml | nindent 4 }}
  readOnlyRootFilesystem: true
  runAsGroup: 0
  runAsUser: 0
  {{- with .Values.agent.seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* Fields that Pods may have: (list . .Values.agent). */ -}}
{{- define "fairlead.scheduling" -}}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with index . 1 }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Arguments of controller and agent: which Services are ours. */ -}}
{{- define "fairlead.class" -}}
- --load-balancer-class={{ .Values.loadBalancerClass }}
{{- if not .Values.unclassedServices }}
- --unclassed=false
{{- end }}
{{- end }}
