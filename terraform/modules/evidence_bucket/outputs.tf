# SPDX-License-Identifier: GPL-3.0-or-later

output "role_vars" {
  description = "Variables of the Ansible role trailgate, as they stand: pass them with --extra-vars or write them into group_vars."
  value = {
    trailgate_evidence_to     = local.urls["evidence"]
    trailgate_evidence_keys   = local.urls["keys"]
    trailgate_evidence_region = local.region
  }

  # Whoever uses the addresses may rely on the locks being there.
  depends_on = [aws_s3_bucket_object_lock_configuration.this, aws_s3_bucket_policy.this]
}

output "lake_url" {
  description = "Where `trailgate audit rebuild-lake --to` writes."
  value       = local.urls["lake"]
}

output "buckets" {
  description = "Names of the buckets: evidence, keys, lake."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.bucket }
}

output "kms_key_arn" {
  description = "The key that all three buckets are encrypted with."
  value       = aws_kms_key.this.arn
}

output "instance_profile" {
  description = "The instance profile for the gateway's hosts on EC2."
  value       = aws_iam_instance_profile.writer.name
}

output "role_arns" {
  description = "Roles that were made: writer, and auditor and eraser where somebody may take them."
  value       = merge({ writer = aws_iam_role.writer.arn }, { for name, role in aws_iam_role.reader : name => role.arn })
}
