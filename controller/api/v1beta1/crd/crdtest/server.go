// SPDX-License-Identifier: Apache-2.0

// Package crdtest checks objects by the CustomResourceDefinitions as the API
// server does, with its own code and without it, and has a table of objects
// with the errors that they are refused with.
package crdtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/controller/api/v1beta1/crd"
)

// Server holds no objects: it says what the API server would make of them.
type Server struct{ kinds map[string]*kind }

// kind is one definition, compiled.
type kind struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	cel        *cel.Validator
}

// Definitions are the CustomResourceDefinitions, sorted by name.
func Definitions() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	names, err := fs.Glob(crd.Files, "*.yaml")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, name := range names {
		data, err := crd.Files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		definition := new(apiextensionsv1.CustomResourceDefinition)
		if err := yaml.UnmarshalStrict(data, definition); err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
		all = append(all, definition)
	}
	return all, nil
}

// NewServer compiles the definitions. The error is what the API server would
// refuse them with: rules that do not compile, or that may cost too much.
func NewServer() (*Server, error) {
	definitions, err := Definitions()
	if err != nil {
		return nil, err
	}
	s := &Server{kinds: map[string]*kind{}}
	for _, d := range definitions {
		k, err := compile(d)
		if err != nil {
			return nil, fmt.Errorf("definition %s: %w", d.Name, err)
		}
		s.kinds[d.Spec.Names.Kind] = k
	}
	return s, nil
}

func compile(d *apiextensionsv1.CustomResourceDefinition) (*kind, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	d = d.DeepCopy()
	// What the server does on creation.
	d.Status.StoredVersions = []string{d.Spec.Versions[0].Name}
	scheme.Default(d)
	var internal apiextensions.CustomResourceDefinition
	if err := scheme.Convert(d, &internal, nil); err != nil {
		return nil, err
	}
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), &internal); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	// With one version, the conversion has put its schema on the top.
	schema := internal.Spec.Validation
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &kind{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// Create returns what is wrong with a new object, one line each, sorted, as
// Causes returns it, and gives the object the defaults.
func (s *Server) Create(object *unstructured.Unstructured) []string { return s.Update(object, nil) }

// Update is Create for an object that is there.
func (s *Server) Update(object, old *unstructured.Unstructured) []string {
	k := s.kinds[object.GetKind()]
	if k == nil {
		return []string{"no kind " + object.GetKind()}
	}
	if unknown := k.prune(object); len(unknown) > 0 {
		return []string{strictError + ": unknown field " + strconv.Quote(unknown[0])}
	}
	defaulting.Default(object.Object, k.structural)
	errs := validation.ValidateCustomResource(nil, object.Object, k.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.structural, object.Object)...)
	if k.cel != nil && !slices.ContainsFunc(errs, blocking) {
		var oldObject any
		if old != nil {
			oldObject = old.Object
		}
		more, _ := k.cel.Validate(context.Background(), nil, k.structural, object.Object, oldObject, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	var lines []string
	for _, err := range errs {
		lines = append(lines, line(err.Field, err.ErrorBody()))
	}
	slices.Sort(lines)
	return lines
}

// prune removes the fields that the schema does not know and names them.
func (k *kind) prune(object *unstructured.Unstructured) []string {
	return pruning.PruneWithOptions(object.Object, k.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
}

// blocking errors keep the server from trying the rules.
func blocking(err *field.Error) bool {
	switch err.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	}
	return false
}

const (
	strictError = "strict decoding error"
	// untried is what the server adds where an error keeps it from trying the rules.
	untried = "some validation rules were not checked because the object was invalid"
)

// Causes are the lines of the API server's answer: an error for each field, or
// the one of decoding, with nothing around.
func Causes(err error) []string {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status) || !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err):
		return []string{err.Error()}
	}
	if _, text, ok := strings.Cut(err.Error(), strictError); ok {
		return []string{strictError + text}
	}
	var lines []string
	for _, cause := range status.Status().Details.Causes {
		if !strings.Contains(cause.Message, untried) {
			lines = append(lines, line(cause.Field, cause.Message))
		}
	}
	slices.Sort(lines)
	return lines
}

func line(path, message string) string { return path + ": " + message }
