// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

const crdTimeout = 30 * time.Second

var crdResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// InstallCRDs creates the definitions in the *.yaml files of the file system, or
// replaces them, and waits until the API server serves them all.
func (c *ControlPlane) InstallCRDs(ctx context.Context, files fs.FS) error {
	client, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	crds, err := readCRDs(files)
	if err != nil {
		return err
	}
	definitions := client.Resource(crdResource)
	for _, crd := range crds {
		if err := createOrReplace(ctx, definitions, crd); err != nil {
			return fmt.Errorf("install %s: %w", crd.GetName(), err)
		}
	}
	for _, crd := range crds {
		err := c.apiserver.wait(ctx, crdTimeout, crd.GetName(), func(ctx context.Context) error {
			return established(ctx, definitions, crd.GetName())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readCRDs reads every document of every file.
func readCRDs(files fs.FS) ([]*unstructured.Unstructured, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("find definitions: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("find definitions: %w", fs.ErrNotExist)
	}
	var crds []*unstructured.Unstructured
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read definition: %w", err)
		}
		for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096); ; {
			crd := &unstructured.Unstructured{}
			if err := d.Decode(crd); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("decode definition %s: %w", name, err)
			}
			if len(crd.Object) > 0 {
				crds = append(crds, crd)
			}
		}
	}
	return crds, nil
}

func createOrReplace(ctx context.Context, definitions dynamic.ResourceInterface, crd *unstructured.Unstructured) error {
	_, err := definitions.Create(ctx, crd, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	old, err := definitions.Get(ctx, crd.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	crd.SetResourceVersion(old.GetResourceVersion())
	_, err = definitions.Update(ctx, crd, metav1.UpdateOptions{})
	return err
}

var errNotEstablished = errors.New("not established")

// established returns nil when the API server serves the definition.
func established(ctx context.Context, definitions dynamic.ResourceInterface, name string) error {
	crd, err := definitions.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	conditions, _, err := unstructured.NestedSlice(crd.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, condition := range conditions {
		fields, _ := condition.(map[string]any)
		if fields["type"] == "Established" && fields["status"] == "True" {
			return nil
		}
	}
	return fmt.Errorf("%s: %w: %v", name, errNotEstablished, conditions)
}
