# Moves `// launch bounds: DIRECTIVES` from a kernel's body to its entry. The body is held back until
# it ends, because the entry's directives stand in front of it.
/^\t\/\/ (begin|end) inline asm$/ { next }
/^\.visible \.entry/ { held = 1; text = ""; bounds = "" }
!held { print; next }
/launch bounds:/ { sub(/.*launch bounds: /, ""); bounds = $0; next }
/^\{/ && !opened { opened = 1; head = text; text = "" }
{ text = text $0 "\n" }
/^\}/ {
    printf "%s%s%s", head, (bounds == "" ? "" : bounds "\n"), text
    held = 0; opened = 0; text = ""
}
