{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* The node settings of fairlead agent, the same for all nodes. */ -}}
{{- define "fairlead.agentConfig" -}}
{{- with .Values.agent -}}
{{- with .interfaces -}}
interfaces: {{ toJson . }}
{{ end -}}
xdpMode: {{ .xdpMode | quote }}
pinPath: /bpf/fairlead
socket: /run/fairlead/agent.sock
genevePort: {{ .genevePort }}
pastTimeout: {{ .pastTimeout }}
limits:
  flows: {{ .limits.flows | int64 }}
  services: {{ .limits.services | int64 }}
  backends: {{ .limits.backends | int64 }}
  tableMemory: {{ .limits.tableMemory }}
{{- end }}
{{- end }}

{{- /*
The node's bpffs is not mounted below /sys: the AppArmor profiles of container
runtimes allow no writing there.
*/ -}}
{{- define "fairlead.agentMounts" -}}
- name: config
  mountPath: /etc/fairlead
  readOnly: true
- name: bpffs
  mountPath: /bpf
- name: run
  mountPath: /run/fairlead
{{- end }}

{{- define "fairlead.agentProbe" -}}
{{- with .Values.agent.metrics -}}
host: {{ .address | default "127.0.0.1" | quote }}
port: metrics
{{- end }}
{{- end }}

{{- /* Which node and which cluster. */ -}}
{{- define "fairlead.agentArgs" -}}
- --kubernetes
- --node-name=$(NODE_NAME)
- --namespace={{ .Release.Namespace }}
- --config=/etc/fairlead/agent.yaml
{{- end }}

{{- define "fairlead.agentEnv" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "fairlead.agentContainer" -}}
{{- $address := .Values.agent.metrics.address -}}
{{- if contains ":" $address }}{{ $address = printf "[%s]" $address }}{{ end -}}
- name: agent
  {{- include "fairlead.container" . | nindent 2 }}
  args:
  - agent
  {{- include "fairlead.agentArgs" . | nindent 2 }}
  {{- include "fairlead.class" . | nindent 2 }}
  - --metrics-address={{ $address }}:{{ .Values.agent.metrics.port }}
  - --log-level={{ .Values.agent.logLevel }}
  {{- if ne .Values.agent.datapath "kernel" }}
  - --datapath={{ .Values.agent.datapath }}
  {{- end }}
  {{- with .Values.agent.announce }}
  {{- if .enabled }}
  - --members-port={{ .membersPort }}
  {{- if .bgpPort }}
  - --bgp-listen={{ .bgpPort }}
  {{- end }}
  {{- else }}
  - --announce=false
  {{- end }}
  {{- end }}
  {{- range .Values.agent.extraArgs }}
  - {{ . | quote }}
  {{- end }}
  env:
  {{- include "fairlead.agentEnv" . | nindent 2 }}
  ports:
  - name: metrics
    containerPort: {{ .Values.agent.metrics.port }}
  {{- with .Values.agent.announce }}
  {{- if .enabled }}
  - name: members-udp
    containerPort: {{ .membersPort }}
    protocol: UDP
  - name: members-tcp
    containerPort: {{ .membersPort }}
  {{- if .bgpPort }}
  - name: bgp
    containerPort: {{ .bgpPort }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- include "fairlead.datapath" . | nindent 2 }}
  {{- with .Values.agent.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Loading the programs takes seconds; a first list of a large cluster, too.
  startupProbe:
    httpGet:
      path: /healthz
      {{- include "fairlead.agentProbe" . | nindent 6 }}
    periodSeconds: 2
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /healthz
      {{- include "fairlead.agentProbe" . | nindent 6 }}
    timeoutSeconds: 5
  readinessProbe:
    httpGet:
      path: /readyz
      {{- include "fairlead.agentProbe" . | nindent 6 }}
    timeoutSeconds: 5
  volumeMounts:
  {{- include "fairlead.agentMounts" . | nindent 2 }}
{{- end }}
