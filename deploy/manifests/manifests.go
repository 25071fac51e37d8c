// SPDX-License-Identifier: Apache-2.0

// Package manifests has what `kubectl apply` installs Fairlead with, rendered
// from the chart, for those that install it by program.
package manifests

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Install is Fairlead, with its namespace.
//
//go:embed fairlead.yaml
var Install []byte

// Cleanup frees the Services, once no controller runs any more.
//
//go:embed cleanup.yaml
var Cleanup []byte

// Names of what is installed.
const (
	Namespace                = "fairlead-system"
	AgentServiceAccount      = "fairlead-agent"
	ControllerServiceAccount = "fairlead-controller"
	CleanupServiceAccount    = "fairlead-cleanup"
)

// codecs knows the kinds that Fairlead is made of, and no field beside theirs.
var codecs = sync.OnceValues(func() (serializer.CodecFactory, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, apiextensionsv1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme,
		corev1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return serializer.CodecFactory{}, err
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict), nil
})

// Decode returns the objects of a manifest in their order. A field that its
// kind does not have is an error.
func Decode(manifest []byte) ([]runtime.Object, error) {
	factory, err := codecs()
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	decoder := factory.UniversalDeserializer()
	var objects []runtime.Object
	for r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest))); ; {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		if onlyComments(document) {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode object %d: %w", len(objects), err)
		}
		objects = append(objects, object)
	}
}

func onlyComments(document []byte) bool {
	for line := range bytes.Lines(document) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}
