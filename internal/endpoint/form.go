package endpoint

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// maxFormGrowth bounds how much larger than four times its JSON the form of an object can be,
// in bytes: each value repeats the names that lead to it.
const maxFormGrowth = 256 << 10

var errFormTooLarge = errors.New("the form is much larger than the object, because its names are long and repeated")

// formEncoded returns an object as application/x-www-form-urlencoded: the value of a member is
// name=value, a member of an object in it name[member]=value and an element of a list
// name[0]=value, in the order of the object. Numbers, true and false are written as in JSON,
// null is empty, and an empty object or list is left out.
func formEncoded(object []byte) ([]byte, error) {
	f := form{dec: jsontext.NewDecoder(bytes.NewBuffer(object), jsontext.AllowInvalidUTF8(true)), limit: 4*len(object) + maxFormGrowth}
	if err := f.value(); err != nil {
		return nil, err
	}
	if _, err := f.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the object is not one JSON value")
	}
	return f.out, nil
}

// form is a form that is being written.
type form struct {
	dec   *jsontext.Decoder
	name  []byte // of the value that is read, encoded
	depth int    // of that value in the object
	out   []byte
	limit int
}

// value writes the next value under its name.
func (f *form) value() error {
	t, err := f.dec.ReadToken()
	if err != nil {
		return err
	}
	switch t.Kind() {
	case '{':
		return f.members()
	case '[':
		return f.elements()
	case 'n':
		return f.pair("")
	}
	return f.pair(url.QueryEscape(t.String()))
}

func (f *form) members() error {
	for f.dec.PeekKind() != '}' {
		t, err := f.dec.ReadToken()
		if err != nil {
			return err
		}
		if err := f.within(url.QueryEscape(t.String())); err != nil {
			return err
		}
	}
	_, err := f.dec.ReadToken()
	return err
}

func (f *form) elements() error {
	for i := 0; f.dec.PeekKind() != ']'; i++ {
		if err := f.within(strconv.Itoa(i)); err != nil {
			return err
		}
	}
	_, err := f.dec.ReadToken()
	return err
}

// within writes the next value under the name of a part of the value that is read.
func (f *form) within(part string) error {
	outer := len(f.name)
	if f.depth > 0 {
		part = "%5B" + part + "%5D"
	}
	f.name = append(f.name, part...)
	f.depth++
	err := f.value()
	f.depth--
	f.name = f.name[:outer]
	return err
}

func (f *form) pair(value string) error {
	if len(f.out)+len(f.name)+len(value) > f.limit {
		return errFormTooLarge
	}
	if len(f.out) > 0 {
		f.out = append(f.out, '&')
	}
	f.out = append(append(append(f.out, f.name...), '='), value...)
	return nil
}
