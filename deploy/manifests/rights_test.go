// SPDX-License-Identifier: Apache-2.0

package manifests_test

import "github.com/fairlead/fairlead/deploy/manifests"

// right is an access in Fairlead's namespace, or in others if it says so.
type right struct {
	group, resource string // resource/subresource
	name, namespace string
	verbs           string
}

const everywhere = "*"

func rights(group, resource, verbs string) right {
	return right{group: group, resource: resource, namespace: everywhere, verbs: verbs}
}

func own(group, resource, verbs string) right {
	return right{group: group, resource: resource, namespace: manifests.Namespace, verbs: verbs}
}

func (r right) called(name string) right {
	r.name = name
	return r
}

func (r right) in(namespace string) right {
	r.namespace = namespace
	return r
}

// What nobody of ours is to do.
var nobody = []right{
	rights("", "secrets", "get list watch update patch delete deletecollection"),
	own("", "secrets", "update patch delete deletecollection").called("other"),
	own("", "secrets", "update patch delete").called("fairlead-wire-key"),
	rights("", "secrets", "create").in("kube-system"),
	rights("", "services", "create delete deletecollection"),
	rights("", "nodes", "create update patch delete"),
	rights("", "nodes/status", "update patch"),
	rights("", "pods", "create update patch delete"),
	rights("", "pods/exec", "create get"),
	rights("", "configmaps", "get list watch create update patch delete"),
	rights("", "serviceaccounts/token", "create"),
	rights("", "serviceaccounts", "impersonate"),
	rights("", "namespaces", "create update patch delete"),
	rights("apps", "daemonsets", "get create update patch delete"),
	rights("apps", "deployments", "get create update patch delete"),
	rights("discovery.k8s.io", "endpointslices", "create update patch delete"),
	rights("rbac.authorization.k8s.io", "clusterroles", "bind escalate create update patch"),
	rights("admissionregistration.k8s.io", "validatingadmissionpolicies", "create update patch delete"),
	rights("apiextensions.k8s.io", "customresourcedefinitions", "create update patch delete"),
	rights("coordination.k8s.io", "leases", "get update patch delete").in("kube-node-lease"),
	own("fairlead.io", "ipaddresspools", "create update patch delete"),
	own("fairlead.io", "nodestates", "delete deletecollection"),
}

// ours says which rights each ServiceAccount needs, and which of the others'
// it must not have.
var ours = []struct {
	account       string
	allowed, none []right
}{
	{
		account: manifests.AgentServiceAccount,
		allowed: []right{
			rights("", "services", "get list watch"),
			rights("", "nodes", "get list watch"),
			rights("", "pods", "get list watch"),
			rights("discovery.k8s.io", "endpointslices", "get list watch"),
			own("fairlead.io", "nodestates", "get list watch create update patch"),
			own("fairlead.io", "nodestates/status", "update patch"),
			own("", "secrets", "get list watch"),
			own("fairlead.io", "ipaddresspools", "get list watch"),
			own("fairlead.io", "l2advertisements", "get list watch"),
			own("fairlead.io", "bgpadvertisements", "get list watch"),
			own("fairlead.io", "bgppeers", "get list watch"),
			own("fairlead.io", "communities", "get list watch"),
			own("fairlead.io", "bfdprofiles", "get list watch"),
		},
		none: []right{
			rights("", "services", "update patch"),
			rights("", "services/status", "update patch"),
			rights("", "events", "create patch"),
			own("", "secrets", "create"),
			own("fairlead.io", "bgppeers", "create update patch delete"),
			own("fairlead.io", "bgppeers/status", "update patch"),
			own("fairlead.io", "addressblocks", "get create update delete"),
			own("coordination.k8s.io", "leases", "create update"),
			rights("fairlead.io", "nodestates", "get list create update").in("default"),
		},
	},
	{account: manifests.ControllerServiceAccount, allowed: controllerRights, none: controllerNone},
	{account: manifests.CleanupServiceAccount, allowed: controllerRights, none: controllerNone},
}

var controllerRights = []right{
	rights("", "services", "get list watch update patch"),
	rights("", "services/status", "update patch"),
	rights("", "namespaces", "get list watch"),
	rights("", "nodes", "get list watch"),
	rights("discovery.k8s.io", "endpointslices", "get list watch"),
	rights("", "events", "create patch"),
	rights("events.k8s.io", "events", "create patch"),
	own("fairlead.io", "ipaddresspools", "get list watch"),
	own("fairlead.io", "ipaddresspools/status", "update patch"),
	own("fairlead.io", "addressblocks", "get list create update delete"),
	own("fairlead.io", "l2advertisements", "get list watch"),
	own("fairlead.io", "l2advertisements/status", "update patch"),
	own("fairlead.io", "bgpadvertisements", "get list watch"),
	own("fairlead.io", "bgpadvertisements/status", "update patch"),
	own("fairlead.io", "bgppeers", "get list watch"),
	own("fairlead.io", "bgppeers/status", "update patch"),
	own("fairlead.io", "communities", "get list watch"),
	own("fairlead.io", "communities/status", "update patch"),
	own("fairlead.io", "bfdprofiles", "get list watch"),
	own("fairlead.io", "bfdprofiles/status", "update patch"),
	own("fairlead.io", "nodestates", "get list watch"),
	own("", "secrets", "get list watch").called("fairlead-wire-key"),
	own("", "secrets", "create"),
	own("coordination.k8s.io", "leases", "create"),
	own("coordination.k8s.io", "leases", "get update patch").called("fairlead-controller"),
}

var controllerNone = []right{
	rights("", "pods", "get list watch"),
	own("", "secrets", "get list watch").called("other"),
	own("fairlead.io", "nodestates", "create update patch"),
	own("fairlead.io", "nodestates/status", "update patch"),
	own("coordination.k8s.io", "leases", "get update patch").called("other"),
}
