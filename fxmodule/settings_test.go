package fxmodule_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/fxmodule"
)

// A new setting with text is hidden until its field has a known tag "show".
func TestNewSettingsAreHidden(t *testing.T) {
	t.Parallel()
	type password string
	type section struct {
		Token string `yaml:"token" env:"TOKEN"`
	}
	type settings struct {
		Password string            `yaml:"password" env:"PASSWORD"`
		Unknown  string            `yaml:"unknown" show:"text"`
		Named    password          `yaml:"named" show:"name"`
		Pointer  *string           `yaml:"pointer" show:"name"`
		Any      any               `yaml:"any"`
		Bytes    []byte            `yaml:"bytes" show:"name"`
		Array    [1]string         `yaml:"array" show:"name"`
		List     []string          `yaml:"list"`
		Pairs    map[string]string `yaml:"pairs" show:"name"`
		Keys     map[string]string `yaml:"keys"`
		Weights  map[string]int    `yaml:"weights"`
		Section  section           `yaml:"section"`
		Sections []section         `yaml:"sections"`
		Code     string            `yaml:"-" env:"-"`
		Shown    string            `yaml:"shown" show:"name"`
	}
	text := secret
	pairs := map[string]string{secret: secret}
	require.Equal(t, `{password: ..., unknown: ..., named: ..., pointer: ..., any: ..., bytes: ..., array: ..., list: [...], `+
		`pairs: 1, keys: 1, weights: {...: 2}, section.token: ..., sections: ..., code: ..., shown: "name"}`,
		fxmodule.ShowSettings(settings{
			Password: secret, Unknown: secret, Named: secret, Pointer: &text, Any: secret, Bytes: []byte(secret), Array: [1]string{secret},
			List: []string{secret}, Pairs: pairs, Keys: pairs, Weights: map[string]int{secret: 2}, Section: section{secret}, Sections: []section{{secret}},
			Code: secret, Shown: "name",
		}))
}

// No setting shows text other than a valid name, or the scheme of a URL.
func TestEachSettingHidesText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{secret + "!", "redis://:" + secret + "@h", "file:///run/" + secret, "env:" + secret, secret + ":6379", secret + "://h", "/run/" + secret} {
		var count int
		var fill func(v reflect.Value)
		fill = func(v reflect.Value) {
			switch v.Kind() {
			case reflect.String:
				v.SetString(text)
				count++
			case reflect.Slice:
				if v.Type().Elem().Kind() == reflect.String {
					v.Set(reflect.MakeSlice(v.Type(), 1, 1))
					fill(v.Index(0))
				}
			case reflect.Map:
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(key)
				fill(value)
				v.Set(reflect.MakeMap(v.Type()))
				v.SetMapIndex(key, value)
			case reflect.Struct:
				if v.Type() == reflect.TypeFor[time.Time]() {
					return
				}
				for i := range v.NumField() {
					fill(v.Field(i))
				}
			default:
			}
		}
		var cache fxmodule.Cache
		var jobs fxmodule.Jobs
		fill(reflect.ValueOf(&cache).Elem())
		fill(reflect.ValueOf(&jobs).Elem())
		require.Greater(t, count, 15)
		require.NotContains(t, cache.String(), secret)
		require.NotContains(t, jobs.String(), secret)
	}
}
