// SPDX-License-Identifier: Apache-2.0

// Package cluster reads MetalLB's objects from an API server, for package
// migrate. It is no part of a road.
package cluster

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// ErrNoMetalLB says that the cluster knows none of MetalLB's kinds.
var ErrNoMetalLB = errors.New("the cluster has no kinds of metallb.io")

// resources are in the order in which objects are printed: what is referred to
// stands before what refers to it.
var resources = []schema.GroupVersionResource{
	{Group: "metallb.io", Version: "v1beta1", Resource: "ipaddresspools"},
	{Group: "metallb.io", Version: "v1beta1", Resource: "communities"},
	{Group: "metallb.io", Version: "v1beta1", Resource: "bfdprofiles"},
	{Group: "metallb.io", Version: "v1beta2", Resource: "bgppeers"},
	{Group: "metallb.io", Version: "v1beta1", Resource: "l2advertisements"},
	{Group: "metallb.io", Version: "v1beta1", Resource: "bgpadvertisements"},
	{Group: "frrk8s.metallb.io", Version: "v1beta1", Resource: "frrconfigurations"},
}

// ConfigMaps that MetalLB reads, by name.
var configMaps = []string{"metallb-excludel2", "bgpextras"}

// Read returns the objects of all namespaces that an operator writes, by kind
// and in the order of the API server. Kinds that the server does not know are
// left out; if it knows none the error is ErrNoMetalLB.
func Read(ctx context.Context, config *rest.Config) ([]*unstructured.Unstructured, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	known := false
	for _, resource := range resources {
		list, err := client.Resource(resource).List(ctx, metav1.ListOptions{})
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("list %s: %w", resource.GroupResource(), err)
		}
		known = true
		all = append(all, pointers(list)...)
	}
	if !known {
		return nil, ErrNoMetalLB
	}
	for _, name := range configMaps {
		list, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).
			List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return nil, fmt.Errorf("list configmaps %s: %w", name, err)
		}
		all = append(all, pointers(list)...)
	}
	return all, nil
}

func pointers(list *unstructured.UnstructuredList) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return all
}
