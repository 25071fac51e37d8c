// SPDX-License-Identifier: Apache-2.0

// Package crd holds the CustomResourceDefinitions of the group fairlead.io,
// generated from the types of the folder above. They check all that can be seen
// in one object by schema and CEL, so that no webhook is needed; what needs the
// whole set is package config's. The rules use nothing that Kubernetes 1.30 has not.
package crd

import "embed"

// Files has one file for each kind.
//
//go:embed *.yaml
var Files embed.FS
