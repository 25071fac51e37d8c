{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* What the controller and its cleanup do to objects of the whole cluster. */ -}}
{{- define "fairlead.controllerClusterRules" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, update, patch]
- apiGroups: [""]
  resources: [services/status]
  verbs: [update, patch]
- apiGroups: [""]
  resources: [namespaces, nodes]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- /* And to objects of Fairlead's namespace. */ -}}
{{- define "fairlead.controllerRules" -}}
- apiGroups: [fairlead.io]
  resources: [ipaddresspools, l2advertisements, bgpadvertisements, bgppeers, communities, bfdprofiles, nodestates]
  verbs: [get, list, watch]
- apiGroups: [fairlead.io]
  resources: [ipaddresspools/status, l2advertisements/status, bgpadvertisements/status, bgppeers/status, communities/status, bfdprofiles/status]
  verbs: [update, patch]
# The record of who has which address, which keeps controllers from giving one out twice.
- apiGroups: [fairlead.io]
  resources: [addressblocks]
  verbs: [get, list, create, update, delete]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [fairlead-wire-key]
  verbs: [get, list, watch]
# RBAC cannot restrict the creation of an object by its name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [fairlead-controller]
  verbs: [get, update, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
