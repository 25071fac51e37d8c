// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The names under which tools look an image up in an archive: containerd's, and
// that of the OCI image layout.
const (
	annotationContainerd = "io.containerd.image.name"
	annotationRef        = "org.opencontainers.image.ref.name"
)

// archive writes an OCI image layout (image-spec v1.1, image-layout.md) as a
// tar file, each blob once.
type archive struct {
	tar     *tar.Writer
	created time.Time
	written map[v1.Hash]bool
}

// writeArchive writes the index with everything that it leads to. The first
// image is also named in a manifest.json, by which Docker finds it where its
// images are not containerd's.
func writeArchive(w io.Writer, index v1.ImageIndex, o options) error {
	a := &archive{tar: tar.NewWriter(w), created: o.created, written: map[v1.Hash]bool{}}
	if err := a.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	var docker tarball.Manifest
	for i, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return fmt.Errorf("image %s: %w", d.Digest, err)
		}
		entry, err := a.addImage(img)
		if err != nil {
			return fmt.Errorf("image %s: %w", d.Digest, err)
		}
		if i == 0 {
			entry.RepoTags = []string{o.ref}
			docker = tarball.Manifest{entry}
		}
	}
	top, err := a.addIndex(index, o.ref)
	if err != nil {
		return err
	}
	return errors.Join(a.addJSON("manifest.json", docker), a.addJSON("index.json", top), a.tar.Close())
}

// addIndex adds the index as a blob and returns the index.json that names it.
func (a *archive) addIndex(index v1.ImageIndex, ref string) (*v1.IndexManifest, error) {
	raw, err := index.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	d, err := partial.Descriptor(index)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	d.Annotations = map[string]string{annotationContainerd: ref, annotationRef: ref}
	return &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{*d}}, a.addBlob(d.Digest, raw)
}

// addImage adds layers, configuration and manifest.
func (a *archive) addImage(img v1.Image) (docker tarball.Descriptor, err error) {
	layers, err := img.Layers()
	if err != nil {
		return docker, err
	}
	for _, layer := range layers {
		digest, err := a.addLayer(layer)
		if err != nil {
			return docker, err
		}
		docker.Layers = append(docker.Layers, blobPath(digest))
	}
	for _, blob := range []struct {
		digest func() (v1.Hash, error)
		raw    func() ([]byte, error)
	}{{img.ConfigName, img.RawConfigFile}, {img.Digest, img.RawManifest}} {
		digest, err := blob.digest()
		if err != nil {
			return docker, err
		}
		raw, err := blob.raw()
		if err != nil {
			return docker, err
		}
		if err := a.addBlob(digest, raw); err != nil {
			return docker, err
		}
	}
	config, err := img.ConfigName()
	docker.Config = blobPath(config)
	return docker, err
}

func (a *archive) addLayer(layer v1.Layer) (digest v1.Hash, err error) {
	if digest, err = layer.Digest(); err != nil {
		return digest, err
	}
	r, err := layer.Compressed()
	if err != nil {
		return digest, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return digest, fmt.Errorf("read layer: %w", err)
	}
	return digest, a.addBlob(digest, data)
}

func blobPath(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

func (a *archive) addBlob(digest v1.Hash, data []byte) error {
	if a.written[digest] {
		return nil
	}
	a.written[digest] = true
	return a.add(blobPath(digest), data)
}

func (a *archive) addJSON(name string, content any) error {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(content); err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return a.add(name, b.Bytes())
}

func (a *archive) add(name string, data []byte) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: a.created, Format: tar.FormatUSTAR,
	}
	if err := a.tar.WriteHeader(header); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	if _, err := a.tar.Write(data); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	return nil
}
