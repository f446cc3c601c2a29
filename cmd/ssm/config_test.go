package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestSampleConfig: it names each setting once, changes nothing as it is, and gives the defaults when it is uncommented.
func TestSampleConfig(t *testing.T) {
	text := sampleConfig()
	for f := range reflect.TypeFor[settings]().Fields() {
		name := f.Tag.Get("toml")
		if name != "" && len(regexp.MustCompile(`(?m)^# .+\n#`+name+` = .+$`).FindAllString(text, -1)) != 1 {
			t.Errorf("%s does not stand once in it, with what it is for", name)
		}
	}
	uncommented := regexp.MustCompile(`(?m)^#(\w+ = )`).ReplaceAllString(text, "$1")
	if strings.Count(uncommented, "\n#") == strings.Count(text, "\n#") {
		t.Fatal("nothing was uncommented")
	}
	for _, text := range []string{text, uncommented} {
		s := defaults()
		if err := (tomlFile{"ssm.toml", []byte(text)}).decode(&s); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if s != defaults() {
			t.Errorf("settings %+v, want %+v", s, defaults())
		}
	}
	var none settings
	if err := (tomlFile{"ssm.toml", []byte(uncommented)}).decode(&none); err != nil || none != defaults() {
		t.Errorf("settings %+v, want %+v (%v)", none, defaults(), err)
	}
}
