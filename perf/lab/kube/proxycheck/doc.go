// SPDX-License-Identifier: Apache-2.0

// Package proxycheck holds controller/desired/kube against kube-proxy: both get
// the same Services and EndpointSlices, and have to choose the same endpoints. It
// is a module of its own, because kube-proxy's code brings all of Kubernetes.
package proxycheck
